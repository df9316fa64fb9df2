import { HELP, helping } from "./keyboard.ts";

export function Help() {
  if (!helping.value) return null;
  return (
    <div class="veil" onClick={() => (helping.value = false)}>
      <div class="help" role="dialog" aria-label="Keys">
        <h2>Keys</h2>
        <dl>
          {HELP.map(([key, what]) => (
            <>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{what}</dd>
            </>
          ))}
        </dl>
      </div>
    </div>
  );
}
