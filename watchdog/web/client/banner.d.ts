import type { Notice } from "./core.js";

export interface Options<Label> {
  /** What is said in place of the English text. */
  label?: Label;
  /** On the button. */
  close?: string;
  parent?: HTMLElement;
}

/** Shows a notice at the bottom of the page, in place of the one before; returns what closes it. */
export function banner(notice: Notice, options?: Options<(notice: Notice) => string>): () => void;

/** Shows the warning above it, or takes it away: give it `atRisk` of each status. */
export function warn(atRisk: boolean, options?: Options<string>): void;

/** What a notice says by default, in English. */
export function text(notice: Notice): string;
