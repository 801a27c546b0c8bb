/**
 * One metric of every release over time, with the rollout's events as lines on the same axis.
 *
 * uPlot draws on a canvas: fifty kilobytes, no dependency, no address outside. A canvas says nothing to a screen reader,
 * so every chart stands beside the same numbers as a table.
 */

import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";

import { localTime } from "../lib/format.ts";

export interface Line {
  readonly label: string;
  /** A colour of the theme: `blue`, `orange`. */
  readonly colour: string;
  readonly dashed?: boolean;
}

export interface Mark {
  /** Seconds since 1970. */
  readonly at: number;
  readonly label: string;
  readonly colour: string;
}

interface Props {
  readonly title: string;
  readonly times: readonly number[];
  readonly rows: readonly (readonly (number | null)[])[];
  readonly lines: readonly Line[];
  readonly marks?: readonly Mark[];
  readonly format: (value: number | null) => string;
  /** Values that the axis must hold, whatever was measured: zero, a threshold. */
  readonly mustShow?: readonly number[];
  /** Indices of two rows between which to fill. */
  readonly band?: readonly [number, number];
  readonly height?: number;
}

/** 24 hours, with the day where one begins: seconds of a step, then its label, then what is added where the day changes. */
const CLOCK: (string | number | null)[][] = [
  [86_400, "{DD} {MMM}", null, null, null, null, null, null, 1],
  [3_600, "{HH}:{mm}", "\n{DD} {MMM}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{DD} {MMM}", null, null, null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{DD} {MMM}", null, null, null, null, null, 1],
];

/** Rises whenever Airflow's colour mode changes: what is on a canvas does not change with a style sheet. */
function useColourMode(): number {
  const [changes, setChanges] = useState(0);
  useEffect(() => {
    const watcher = new MutationObserver(() => setChanges((count) => count + 1));
    watcher.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "data-theme"] });
    return () => watcher.disconnect();
  }, []);
  return changes;
}

/** The shade of a colour that is told apart from the background in light and in dark. */
function shade(colour: string): string {
  const dark = document.documentElement.classList.contains("dark");
  return token(`${colour}-${dark ? "400" : "solid"}`, colour);
}

function token(name: string, fallback: string): string {
  const found = getComputedStyle(document.documentElement).getPropertyValue(`--chakra-colors-${name}`).trim();
  return found || fallback;
}

export function Chart({ title, times, rows, lines, marks = [], format, mustShow = [0], band, height = 170 }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latestMarks = useRef(marks);
  latestMarks.current = marks;
  const mode = useColourMode();
  const shape = JSON.stringify([title, lines, band, height, mustShow, mode]);

  useEffect(() => {
    const host = box.current;
    if (!host) return undefined;
    const text = token("fg-muted", "#71717a");
    const grid = token("border", "#e4e4e7");
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "11px sans-serif" };
    const made = new uPlot(
      {
        width: Math.max(200, host.clientWidth),
        height,
        cursor: { points: { size: 7 } },
        legend: { live: true },
        scales: {
          x: { time: true },
          y: {
            range: (_plot, low, high) => {
              const values = [low, high, ...mustShow].filter((value): value is number => Number.isFinite(value));
              const least = Math.min(...values);
              const most = Math.max(...values);
              const pad = (most - least || 1) * 0.08;
              return [least === 0 ? 0 : least - pad, most + pad];
            },
          },
        },
        axes: [{ ...axis, values: CLOCK }, { ...axis, size: 62, values: (_plot, ticks) => ticks.map((tick) => format(tick)) }],
        series: [
          { label: "at", value: (_plot, at) => (at === null ? "–" : localTime(new Date(at * 1000))) },
          ...lines.map((line) => ({
            label: line.label,
            stroke: shade(line.colour),
            width: 2,
            spanGaps: false,
            points: { size: 5 },
            value: (_plot: uPlot, value: number | null) => format(value),
            ...(line.dashed ? { dash: [5, 4] } : {}),
          })),
        ],
        ...(band ? { bands: [{ series: [band[0] + 1, band[1] + 1] as [number, number], fill: token("blue-subtle", "#dbeafe") }] } : {}),
        hooks: {
          draw: [
            (drawn) => {
              const { ctx, bbox } = drawn;
              ctx.save();
              for (const mark of latestMarks.current) {
                const x = Math.round(drawn.valToPos(mark.at, "x", true)) + 0.5;
                if (x < bbox.left || x > bbox.left + bbox.width) continue;
                ctx.strokeStyle = shade(mark.colour);
                ctx.lineWidth = devicePixelRatio;
                ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
                ctx.beginPath();
                ctx.moveTo(x, bbox.top);
                ctx.lineTo(x, bbox.top + bbox.height);
                ctx.stroke();
              }
              ctx.restore();
            },
          ],
        },
      },
      [[], ...lines.map(() => [])] as unknown as uPlot.AlignedData,
      host,
    );
    plot.current = made;
    const watcher = new ResizeObserver(() => made.setSize({ width: Math.max(200, host.clientWidth), height }));
    watcher.observe(host);
    return () => {
      watcher.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => {
    plot.current?.setData([times, ...rows] as unknown as uPlot.AlignedData);
  }, [times, rows, shape, marks]);

  return (
    <figure className="chart">
      <figcaption>
        <h3>{title}</h3>
      </figcaption>
      <div ref={box} role="img" aria-label={`${title} over time; the same numbers stand in the table below`} />
    </figure>
  );
}
