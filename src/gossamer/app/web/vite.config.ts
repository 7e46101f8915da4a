import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { type Plugin, defineConfig } from "vite";

const components = fileURLToPath(new URL("../../report/components/", import.meta.url));

/** Parts of the report's components share one scope; they are put in by the rule of gossamer.report.html.component. */
export const included: Plugin = {
  name: "included",
  enforce: "pre",
  transform: (code, id) => (id.startsWith(components) ? code.replace(/^[ \t]*\/\/ include (\S+)\n/gm, (_, name: string) => readFileSync(components + name, "utf8")) : null),
};

export default defineConfig({
  base: "./",
  plugins: [included, react()],
  build: { outDir: "../static", emptyOutDir: true, modulePreload: { polyfill: false }, assetsInlineLimit: 0, target: "es2022" },
});
