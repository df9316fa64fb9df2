import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

// The layout engine comes as a finished worker: it is copied, not bundled.
const layout = (): Plugin => ({
  name: "layout-worker",
  generateBundle() {
    const path = fileURLToPath(import.meta.resolve("elkjs/lib/elk-worker.min.js"));
    this.emitFile({ type: "asset", fileName: "layout.js", source: readFileSync(path) });
    this.emitFile({
      type: "asset",
      fileName: "THIRD_PARTY.txt",
      source: readFileSync(new URL("THIRD_PARTY.txt", import.meta.url)),
    });
  },
});

export default defineConfig({
  base: "./",
  plugins: [layout()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../src/ds_inspector/page_assets",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 100_000,
    rollupOptions: {
      input: { app: fileURLToPath(new URL("index.html", import.meta.url)) },
      output: {
        entryFileNames: "[name].js",
        chunkFileNames: "[name].js",
        assetFileNames: "[name][extname]",
      },
    },
  },
});
