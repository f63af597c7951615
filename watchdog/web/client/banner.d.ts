import type { Notice } from "./core.js";

/** Shows a notice at the bottom of the page; returns what closes it. */
export function banner(
  notice: Notice,
  options?: { label?: (notice: Notice) => string; close?: string; parent?: HTMLElement },
): () => void;

/** What is said by default, in English. */
export function text(notice: Notice): string;
