/** The client without a page: for tests, and for hosts of one's own. */

/** What the watchdog did to the agent's status. */
export interface Notice {
  status: string;
  /** RFC 3339. */
  set_at: string;
  why: string;
  restored: string | null;
}

/** What the daemon says. */
export interface Reply {
  state: "live" | "unknown" | "stop";
  next_ms?: number;
  /** For how long the session lives from this message on. */
  ttl_ms?: number;
  ticket?: string;
  notice?: Notice;
  /** The daemon takes a WebSocket at `/v1/ws`. */
  ws?: boolean;
}

export interface Answer {
  /** Of HTTP. */
  status: number;
  /** From Retry-After; 0 where there is none. */
  retry_ms?: number;
  /** Without `state` unless the status is 200. */
  data: Reply | { state?: undefined };
}

export interface Socket {
  send(text: string): void;
  close(): void;
}

export interface SocketEvents {
  open(): void;
  message(text: string): void;
  /** It closed, or could not be opened. May come more than once. */
  close(): void;
}

/** The world, as the core sees it. Times are in milliseconds. */
export interface Io {
  /** A clock that nobody sets. */
  now(): number;
  /** The time of day, which also runs while the machine sleeps. */
  wall(): number;
  /** From 0 to 1. */
  random(): number;
  /** Calls once, after so long; what it returns takes it back. */
  after(ms: number, then: () => void): () => void;
  /** Sends a message. Rejects, or null, without an answer; the function gives it up. */
  post(body: string): [Promise<Answer | null>, () => void];
  /** Opens a WebSocket; absent where none is wanted. May throw. */
  connect?: (on: SocketEvents) => Socket;
  /** A new token, after a 401. */
  token(): Promise<string | undefined>;
  /** For how long the page has not answered its worker. */
  lag?: () => number;
  tell(event: CoreEvent): void;
}

export type CoreState = "connecting" | "live" | "retrying" | "unauthorized" | "stopped";

export interface CoreEvent {
  state: CoreState;
  transport: "post" | "ws";
  incarnation: number;
  seq: number;
  ticket?: string;
  open: boolean;
  notice?: Notice;
  /** With `live`. */
  ttl_ms?: number;
}

/** A session; plain data, so that a page can give it to its worker. */
export interface Session {
  /** `agent`, or `instance_id` and `user_id`. */
  who: Record<string, string>;
  sessionId: string;
  incarnation: number;
  seq: number;
  /** The daemon has it: beats, not hellos. */
  open: boolean;
  ticket?: string;
  token?: string;
  visibility: "visible" | "hidden";
  driver: "worker" | "main";
  /** The Connect session is up; absent where nobody can tell. */
  login?: boolean;
  /** The longest time for which the timer did not run since a message was answered. */
  gap: number;
  /** Sent with hellos. */
  meta?: Record<string, unknown>;
}

export interface Core {
  /** Says hello, as a new page; or goes on after so long, as one that was handed over. */
  start(wait_ms?: number): void;
  /** Says hello in a new incarnation, at least this one. */
  enter(incarnation: number): void;
  /** Sends nothing any more. The bye is the page's. */
  leave(): void;
  /** Leaves, if nothing is under way, and returns when the next message is due; else undefined. */
  release(): number | undefined;
  set(changes: Partial<Session>): void;
  /** Beats at once, if nothing is under way. */
  kick(): void;
  /** Call it each second, where timers are exact: measures the gap, and beats after a sleep. */
  tick(): void;
}

export function createCore(io: Io, session: Session): Core;

/** The text of a message, which is numbered by this. */
export function message(
  session: Session,
  type: "hello" | "beat" | "bye",
  more?: Record<string, unknown>,
): string;

/** The world of a page or of a worker. */
export function wire(scope: typeof globalThis, url: string, ws: boolean): Omit<Io, "token" | "tell">;

/** What a page says to its worker: `[name, ...arguments]`. */
export interface FromPage {
  begin(session: Session, url: string, ws: boolean, wait_ms: number): void;
  pong(): void;
  token(token: string | undefined): void;
  enter(incarnation: number): void;
  leave(): void;
  set(changes: Partial<Session>): void;
  kick(): void;
  [name: string]: (...args: any[]) => void;
}
