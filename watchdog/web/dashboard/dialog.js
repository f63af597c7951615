// Asks once before something is done, and shows what became of it.

import { el, fill, say } from "./elements.js";

const HASTE_MS = 400; // a second click of a double click, and a key that is held, confirm nothing

let asking = false; // one question at a time

/**
 * @param {object} asked
 * @param {string} asked.title
 * @param {string[]} asked.tells What will happen, a paragraph each.
 * @param {string} asked.act The button's text.
 * @param {boolean} [asked.grave] It changes an agent's status.
 * @param {{name: string, label: string, hint?: string, maxlength?: number}[]} [asked.fields]
 * @param {(values: Record<string, string>) => Promise<string>} asked.run Does it; returns what to show.
 * @returns {Promise<boolean>} Whether it was done, after the dialog is closed; false at once while another one is open.
 */
export function ask({ title, tells, act, grave = false, fields = [], run }) {
  if (asking) return Promise.resolve(false);
  asking = true;
  return new Promise((resolve) => {
    let done = false;
    let busy = false;
    const inputs = fields.map((field) => ({
      field,
      input: el("input", { id: `ask-${field.name}`, maxlength: field.maxlength ?? 500, autocomplete: "off" }),
    }));
    const result = el("p.result", { role: "status" });
    const go = el(grave ? "button.grave" : "button.primary", { type: "submit", disabled: true }, act);
    setTimeout(() => (go.disabled = false), HASTE_MS);
    const close = el("button", { type: "button", onclick: () => dialog.close() }, "Leave it");
    const form = el(
      "form",
      { onsubmit: submit },
      el("h2", { id: "ask-title" }, title),
      tells.map((text) => el("p", {}, text)),
      inputs.map(({ field, input }) =>
        el("div.field", {}, el("label", { for: input.id }, field.label), input, field.hint ? el("small", {}, field.hint) : null),
      ),
      result,
      el("div.buttons", {}, close, go),
    );
    const dialog = el(
      "dialog",
      {
        "aria-labelledby": "ask-title",
        onclose: ended,
        // What is under way cannot be left: its end would be seen by nobody.
        oncancel: (event) => busy && event.preventDefault(),
        onkeydown: (event) => ((event.repeat && event.key === "Enter") || (busy && event.key === "Escape")) && event.preventDefault(),
      },
      form,
    );
    // The way back leads to another page, to which the question does not belong.
    const elsewhere = () => busy || dialog.close();
    addEventListener("hashchange", elsewhere);
    document.body.append(dialog);
    dialog.showModal();
    (inputs[0]?.input ?? close).focus();

    async function submit(event) {
      event.preventDefault();
      if (busy) return;
      busy = true;
      go.disabled = close.disabled = true;
      for (const { input } of inputs) input.disabled = true;
      result.className = "result is-busy";
      say(result, "Asking the daemon…");
      try {
        say(result, await run(Object.fromEntries(inputs.map(({ field, input }) => [field.name, input.value.trim()]))));
        result.className = "result is-done";
        done = true;
        go.remove();
      } catch (error) {
        result.className = "result is-bad";
        say(result, error.message);
        go.disabled = false;
        say(go, "Try again");
        for (const { input } of inputs) input.disabled = false;
      }
      busy = close.disabled = false;
      fill(close, "Close");
      close.focus();
    }

    function ended() {
      asking = false;
      removeEventListener("hashchange", elsewhere);
      dialog.remove();
      resolve(done);
    }
  });
}
