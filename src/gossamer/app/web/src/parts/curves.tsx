/** Curves with intervals: the component that the report draws with. */
import { useEffect, useRef } from "react";
import { mountCurves } from "../../../../report/components/curves.js";
import type { Shapes } from "../api";

export function Curves({ data }: { data: Shapes["CurvesData"] }) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!host.current) return;
    const curves = mountCurves(host.current, data as never);
    return () => curves.destroy();
  }, [data]);
  return <div ref={host} className="curves-host" />;
}
