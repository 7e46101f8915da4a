import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { included } from "./vite.config";

/** All of the page as one module, beside what vite.config.ts built: for exported pages and for notebooks. */
export default defineConfig({
  plugins: [included, react()],
  build: {
    outDir: "../static", emptyOutDir: false, copyPublicDir: false, modulePreload: false, target: "es2022",
    rollupOptions: {
      input: "src/bundle.tsx", preserveEntrySignatures: "strict",
      output: { format: "es", entryFileNames: "bundle.js", codeSplitting: false },
    },
  },
});
