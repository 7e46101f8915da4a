/** What stands where an answer will be: waiting, failed, or nothing there. */
import { type ReactNode, useCallback, useEffect, useState } from "react";
import { Refusal } from "../api";

export type Asking<T> = { state: "asking" } | { state: "answered"; value: T } | { state: "failed"; error: Refusal };

/** Ask again whenever `key` changes; an answer that comes too late is dropped, and its request with it. */
export function useAnswer<T>(key: string, ask: (signal: AbortSignal) => Promise<T>): [Asking<T>, () => void] {
  const [found, setFound] = useState<{ key: string; asking: Asking<T> }>({ key, asking: { state: "asking" } });
  const [again, setAgain] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    setFound({ key, asking: { state: "asking" } });
    ask(stop.signal).then(
      (value) => !stop.signal.aborted && setFound({ key, asking: { state: "answered", value } }),
      (error: unknown) => !stop.signal.aborted && setFound({ key, asking: { state: "failed", error: refusalOf(error) } }),
    );
    return () => stop.abort();
    // `ask` is a new function at every render; what it asks for is in `key`.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [key, again]);
  const retry = useCallback(() => setAgain((times) => times + 1), []);
  return [found.key === key ? found.asking : { state: "asking" }, retry];
}

export function refusalOf(error: unknown): Refusal {
  return error instanceof Refusal ? error : new Refusal(error instanceof Error ? error.message : String(error), 0);
}

export function Waiting({ children }: { children: ReactNode }) {
  return <p className="state waiting" role="status">{children}</p>;
}

export function Failed({ error, retry }: { error: Refusal; retry?: () => void }) {
  const hint = error.status === 401 ? " This tab has no token of this start: open the address that gossamer view printed." : "";
  return (
    <div className="state failed" role="alert">
      <p>{error.message}{hint}</p>
      {retry && <button type="button" onClick={retry}>Try again</button>}
    </div>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return <p className="state empty">{children}</p>;
}

export function Answer<T>({ of: [asking, retry], waiting, children }: { of: [Asking<T>, () => void]; waiting: string; children: (value: T) => ReactNode }) {
  if (asking.state === "asking") return <Waiting>{waiting}</Waiting>;
  if (asking.state === "failed") return <Failed error={asking.error} retry={retry} />;
  return <>{children(asking.value)}</>;
}
