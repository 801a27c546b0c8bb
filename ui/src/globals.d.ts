import type { SystemContext } from "@chakra-ui/react";

declare global {
  /** Airflow's own theme, set by its UI before a plugin is loaded. */
  var ChakraUISystem: SystemContext | undefined;
}
