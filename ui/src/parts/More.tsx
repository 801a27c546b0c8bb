import { Button } from "@chakra-ui/react";

import type { Paged } from "../lib/usePaged.ts";
import { Failed } from "./states.tsx";

export function More<Item>({ paged }: { readonly paged: Paged<Item> }) {
  return (
    <div className="stack tight">
      {paged.problem ? <Failed problem={paged.problem} /> : null}
      {paged.hasMore ? (
        <div>
          <Button size="sm" variant="outline" disabled={paged.busy} onClick={paged.more}>
            {paged.busy ? "Loading…" : "Older"}
          </Button>
        </div>
      ) : null}
    </div>
  );
}
