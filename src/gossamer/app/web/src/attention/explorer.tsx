/** Prompts taken apart, by the component that the report's page is drawn with. */
import { useEffect, useRef } from "react";
import { mountAttribution } from "../../../../report/components/attribution.js";
import type { Shapes } from "../api";

export default function Explorer({ page }: { page: Shapes["AttributionPage"] }) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!host.current) return;
    const mounted = mountAttribution(host.current, page.data as never, page.shown as never) as { destroy: () => void };
    return () => mounted.destroy();
  }, [page]);
  return <div ref={host} className="component" />;
}
