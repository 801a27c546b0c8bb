import { defineConfig } from "vitest/config";

/** What Airflow's own UI keeps under `globalThis` for its plugins; it must not be in the bundle a second time. */
const HOST = {
  "@chakra-ui/react": "ChakraUI",
  react: "React",
  "react-dom": "ReactDOM",
  "react-router-dom": "ReactRouterDOM",
  "react/jsx-runtime": "ReactJSXRuntime",
};

export default defineConfig(({ command, mode }) => ({
  // `npm run dev` serves the page without Airflow; a build never reads that folder.
  ...(command === "serve" && mode === "development" ? { root: "dev", appType: "spa" as const } : {}),
  build: {
    // Beside the code that serves it: it is part of the wheel, and nobody needs Node to install or to run it.
    outDir: "../airflow_provider_mlpipex/plugins/www/dist",
    emptyOutDir: true,
    lib: { entry: "src/main.tsx", formats: ["umd" as const], name: "AirflowPlugin", fileName: () => "main.js" },
    rollupOptions: { external: Object.keys(HOST), output: { globals: HOST } },
    target: "es2022",
  },
  define: command === "build" ? { "process.env.NODE_ENV": JSON.stringify("production") } : {},
  esbuild: { jsx: "automatic" as const },
  test: {
    environment: "happy-dom",
    include: ["test/**/*.test.{ts,tsx}"],
    restoreMocks: true,
    setupFiles: "test/setup.ts",
    // A busy machine is slow, and no verdict.
    testTimeout: 240_000,
  },
}));
