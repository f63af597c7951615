// Asks once before something is done, and shows what became of it.

import { el, fill, say } from "./elements.js";

/**
 * @param {object} asked
 * @param {string} asked.title
 * @param {string[]} asked.tells What will happen, a paragraph each.
 * @param {string} asked.act The button's text.
 * @param {boolean} [asked.grave] It changes an agent's status.
 * @param {{name: string, label: string, hint?: string, maxlength?: number}[]} [asked.fields]
 * @param {(values: Record<string, string>) => Promise<string>} asked.run Does it; returns what to show.
 * @returns {Promise<boolean>} Whether it was done, after the dialog is closed.
 */
export function ask({ title, tells, act, grave = false, fields = [], run }) {
  return new Promise((resolve) => {
    let done = false;
    const inputs = fields.map((field) => ({
      field,
      input: el("input", { id: `ask-${field.name}`, maxlength: field.maxlength ?? 500, autocomplete: "off" }),
    }));
    const result = el("p.result", { role: "status" });
    const go = el(grave ? "button.grave" : "button.primary", { type: "submit" }, act);
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
    const dialog = el("dialog", { "aria-labelledby": "ask-title", onclose: ended }, form);
    document.body.append(dialog);
    dialog.showModal();
    (inputs[0]?.input ?? close).focus();

    async function submit(event) {
      event.preventDefault();
      go.disabled = true;
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
      fill(close, "Close");
      close.focus();
    }

    function ended() {
      dialog.remove();
      resolve(done);
    }
  });
}
