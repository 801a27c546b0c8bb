/** Small things that every view shows: a time, a chip, a lamp, how traffic is split, a notice. */

import { type ReactNode, useEffect, useState } from "react";

import type { LampColour, Share, Verdict } from "../api/types.ts";
import { age, instant, localTime, percent, UNKNOWN, utcTime } from "../lib/format.ts";

export type Tone = "red" | "amber" | "green" | "blue" | "purple" | "gray";

/** A moment, in the zone of the browser; UTC on hover and for whoever listens. */
export function When({ at, relative = false }: { readonly at: string | null | undefined; readonly relative?: boolean }) {
  const date = instant(at);
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (!relative) return undefined;
    const clock = setInterval(() => setNow(Date.now()), 10_000);
    return () => clearInterval(clock);
  }, [relative]);
  if (!date) return <span className="muted">{UNKNOWN}</span>;
  const local = localTime(date);
  return (
    <time className="num" dateTime={date.toISOString()} title={relative ? `${local} · ${utcTime(date)}` : utcTime(date)}>
      {relative ? age(date, now) : local}
    </time>
  );
}

export function Chip({ tone, children, title }: { readonly tone: Tone; readonly children: ReactNode; readonly title?: string }) {
  return (
    <span className={`chip tone-${tone}`} title={title}>
      {children}
    </span>
  );
}

const VERDICT: Record<Verdict, { tone: Tone; mark: string; words: string }> = {
  pass: { tone: "green", mark: "✓", words: "pass" },
  fail: { tone: "red", mark: "✗", words: "fail" },
  inconclusive: { tone: "amber", mark: "?", words: "cannot tell yet" },
  error: { tone: "purple", mark: "!", words: "measurement broke" },
};

export function verdictTone(verdict: Verdict | null): Tone {
  return verdict ? VERDICT[verdict].tone : "gray";
}

export function VerdictChip({ verdict }: { readonly verdict: Verdict | null }) {
  if (!verdict) return <Chip tone="gray">not judged</Chip>;
  const { tone, mark, words } = VERDICT[verdict];
  return (
    <Chip tone={tone}>
      <span aria-hidden="true">{mark}</span>
      {words}
    </Chip>
  );
}

const LAMP: Record<LampColour, { tone: Tone; words: string }> = {
  green: { tone: "green", words: "a rollback would work now" },
  amber: { tone: "amber", words: "a rollback should work, with a doubt" },
  red: { tone: "red", words: "a rollback would not work now" },
  none: { tone: "gray", words: "nothing to roll back to yet" },
};

/** Whether a rollback would work now: shape and words beside the colour, for whoever cannot tell colours apart. */
export function Lamp({ lamp, reason, short = false }: { readonly lamp: LampColour; readonly reason: string | null; readonly short?: boolean }) {
  const { tone, words } = LAMP[lamp] ?? LAMP.none;
  const shape = lamp === "none" ? "dot hollow" : lamp === "red" ? "dot square" : "dot";
  const brief = { green: "ready", amber: "doubtful", red: "not ready", none: "none yet" }[lamp] ?? "none yet";
  return (
    <span className={`row tight tone-${tone}`} title={reason ? `${words}: ${reason}` : words}>
      <span className={shape} aria-hidden="true" />
      <span>{short ? brief : words}</span>
    </span>
  );
}

export const ROLE_TONE: Record<string, Tone> = {
  current: "blue",
  candidate: "amber",
  control: "purple",
  previous: "gray",
  other: "gray",
};

export function splitWords(traffic: readonly Share[]): string {
  if (traffic.length === 0) return "no traffic plan";
  return traffic.map(({ role, release, share }) => `${role} ${release}: ${percent(share)}`).join(", ");
}

export function SplitBar({ traffic, tall = false }: { readonly traffic: readonly Share[]; readonly tall?: boolean }) {
  const words = splitWords(traffic);
  return (
    <span className={`split${tall ? " tall" : ""}`} role="img" aria-label={`Traffic: ${words}`} title={words}>
      {traffic
        .filter(({ share }) => share > 0)
        .map(({ release, role, share }) => (
          <span key={`${role} ${release}`} className={`tone-${ROLE_TONE[role] ?? "gray"}`} style={{ flexGrow: share }} />
        ))}
    </span>
  );
}

export function Notice({ tone, children, role }: { readonly tone: Tone; readonly children: ReactNode; readonly role?: "alert" | "status" }) {
  return (
    <div className={`notice tone-${tone}`} role={role}>
      {children}
    </div>
  );
}

export function Facts({ items }: { readonly items: readonly (readonly [string, ReactNode])[] }) {
  return (
    <dl className="facts">
      {items.map(([name, value]) => (
        <div key={name} style={{ display: "contents" }}>
          <dt>{name}</dt>
          <dd>{value ?? <span className="muted">{UNKNOWN}</span>}</dd>
        </div>
      ))}
    </dl>
  );
}
