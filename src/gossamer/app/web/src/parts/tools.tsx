/** What every view offers: the call that gives the same in Python, and its data as a file. */
import { useEffect, useState } from "react";

export function Tools({ python, data, name }: { python: string; data: unknown; name: string }) {
  return (
    <div className="toolbar">
      <Copy text={python} label="Copy as Python" />
      <button type="button" onClick={() => save(`${name}.json`, JSON.stringify(data, null, 1), "application/json")}>Download data</button>
    </div>
  );
}

export function Copy({ text, label }: { text: string; label: string }) {
  const [said, setSaid] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setSaid(""), 2500);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = () => navigator.clipboard.writeText(text).then(() => setSaid("copied"), () => setSaid("could not be copied"));
  return (
    <>
      <button type="button" title={text} onClick={copy}>{label}</button>
      <span className="said" role="status">{said}</span>
    </>
  );
}

export function save(name: string, content: string | Blob, type: string): void {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
