/**
 * Requests to the provider's API, on the address of the page itself.
 *
 * Not Airflow's own HTTP client: that one blocks an address for the rest of the session once it has answered 403.
 */

export const API = "mlpipex/api/v1";

/** What went wrong, in the words of problem+json (RFC 9457): what, which value, against which limit, what to do. */
export interface Problem {
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly value?: string;
  readonly limit?: string;
  readonly remedy?: string;
  readonly runbook?: string;
}

export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }

  get status(): number {
    return this.problem.status;
  }
}

/** The folder that Airflow is served from: `/`, or `/team-a/` where `[api] base_url` says so. */
export function basePath(document: Document = globalThis.document): string {
  const path = new URL(document.baseURI).pathname;
  return path.slice(0, path.lastIndexOf("/") + 1);
}

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** Each part is quoted by itself: a run id holds `+`, `:` and `/`. */
export function address(parts: readonly string[], query: Query = {}, base: string = basePath()): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") search.set(name, String(value));
  }
  const path = [API, ...parts.map(encodeURIComponent)].join("/");
  const asked = search.toString();
  return `${base}${path}${asked ? `?${asked}` : ""}`;
}

const RECORD = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

function text(value: unknown): string | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Whatever a server, a proxy or a broken network answers, as a problem that a person can read. */
export function problemOf(status: number, body: unknown, statusText = ""): Problem {
  const said = RECORD(body) ? body : {};
  const optional: Record<string, string> = {};
  for (const name of ["value", "limit", "remedy", "runbook"] as const) {
    const value = text(said[name]);
    if (value !== undefined) optional[name] = value;
  }
  return {
    status,
    title: text(said.title) ?? (status === 0 ? "No answer" : `Answer ${status}${statusText ? ` ${statusText}` : ""}`),
    detail: text(said.detail) ?? MEANING[status] ?? "The server gave no reason.",
    ...optional,
  };
}

const MEANING: Readonly<Record<number, string>> = {
  0: "Airflow's api-server cannot be reached from this browser.",
  401: "The session has ended: log in again.",
  403: "Your role does not permit this.",
  404: "There is nothing here by this name.",
  502: "A proxy in front of Airflow has no answer from it.",
  503: "Airflow's api-server is not ready.",
};

interface Options {
  readonly method?: "GET" | "POST";
  readonly query?: Query;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/**
 * Ask, and return what was answered.
 *
 * @throws ApiError whatever came in place of an answer
 */
export async function request<Answer>(parts: readonly string[], options: Options = {}): Promise<Answer> {
  const { method = "GET", query, body, headers, signal } = options;
  const init: RequestInit = {
    method,
    credentials: "same-origin",
    headers: {
      accept: "application/json",
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
  };
  if (body !== undefined) init.body = JSON.stringify(body);
  if (signal) init.signal = signal;
  let response: Response;
  try {
    response = await fetch(address(parts, query), init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(problemOf(0, undefined));
  }
  const answer = await response.text();
  let parsed: unknown;
  try {
    parsed = answer ? JSON.parse(answer) : undefined;
  } catch {
    parsed = undefined;
  }
  if (!response.ok) throw new ApiError(problemOf(response.status, parsed, response.statusText));
  if (parsed === undefined) {
    throw new ApiError({ status: response.status, title: "No JSON", detail: "Something else than the API answered." });
  }
  return parsed as Answer;
}
