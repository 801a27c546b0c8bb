import { Button } from "@chakra-ui/react";
import type { ReactNode } from "react";

import type { Paged } from "../lib/usePaged.ts";
import { Failed, Loaded } from "./states.tsx";

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

/** A list in all its states: it loads, there is nothing, there is something and perhaps more of it. */
export function PagedItems<Item>({
  paged,
  what,
  empty,
  children,
}: {
  readonly paged: Paged<Item>;
  readonly what: string;
  readonly empty: ReactNode;
  readonly children: (items: readonly Item[]) => ReactNode;
}) {
  return (
    <Loaded polled={paged.first} what={what}>
      {() =>
        paged.items.length === 0 ? (
          empty
        ) : (
          <>
            {children(paged.items)}
            <More paged={paged} />
          </>
        )
      }
    </Loaded>
  );
}
