import type { Notice } from "./core.js";

export type { Notice } from "./core.js";

/** What is needed of Amazon Connect Streams: `connect`, once its script is loaded. */
export interface Streams {
  core: {
    getEventBus(): { subscribe(event: string, then: (data?: any) => void): unknown } | null | undefined;
  };
  EventType: { TERMINATED: string; AUTH_FAIL: string };
  agent(then: (agent: StreamsAgent) => void): unknown;
}

export interface StreamsAgent {
  getAgentARN?(): string;
  getConfiguration(): { agentARN: string };
  onRefresh?(then: () => void): unknown;
}

export interface Status {
  /**
   * `away`: signed out, or in the back-forward cache. `stopped`: logged out by an order; goes on after a new sign-in.
   * `ended`: by `stop()`.
   */
  state: "connecting" | "live" | "retrying" | "unauthorized" | "stopped" | "away" | "ended";
  driver: "worker" | "main";
  transport: "post" | "ws";
  sessionId: string;
  /** Not answered for half of the lease, or for 10 s where there is none yet: tell the agent before it runs out. */
  atRisk: boolean;
}

export interface Options {
  /** Of the daemon; by default where this file comes from. */
  url?: string;
  /** The agent's ARN, or INSTANCE-ID/USER-ID. */
  agent?: string;
  /** In place of `agent`: `connect` of Amazon Connect Streams, or a function that finds it when it is loaded. */
  streams?: Streams | (() => Streams | undefined);
  /** Gives a heartbeat token; asked at the start and whenever one was refused. */
  getToken?: () => string | undefined | Promise<string | undefined>;
  /** `false`: the page keeps the time. */
  worker?: "auto" | false;
  /** `post`: no WebSocket. */
  transport?: "auto" | "post";
  onStatus?: (status: Status) => void;
  /** Once for each notice. */
  onNotice?: (notice: Notice) => void;
  /**
   * JSON that is sent with each hello, for whoever reads the traffic; the daemon ignores it. With more than 1,000
   * characters it is left out.
   */
  meta?: Record<string, unknown>;
}

export interface Presence {
  readonly sessionId: string;
  /** Says bye and ends for good. */
  stop(reason?: string): void;
}

/** Tells the daemon that this page is there, until it is closed. Never throws. */
export function presence(options: Options): Presence;
