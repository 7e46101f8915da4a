/** The parts of a page of relations, by the component that the report's page is drawn with. */
import { useEffect, useRef } from "react";
import { mountRelations } from "../../../../report/components/relations.js";
import type { Shapes } from "../api";

export default function RelationParts({ page, only }: { page: Shapes["RelationsPage"]; only: string[] }) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!host.current) return;
    const mounted = mountRelations(host.current, page.data as never, page.shown as never, { only } as never) as { destroy: () => void };
    return () => mounted.destroy();
  }, [page, only]);
  return <div ref={host} className="component" />;
}
