/** SIGTERM and SIGINT end the process in good order; a second one ends it at once. */
const SECOND_SIGNAL_EXIT = 130;

/** A signal that is aborted by SIGTERM or SIGINT. */
export function shutdownSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(SECOND_SIGNAL_EXIT);
    controller.abort();
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  return controller.signal;
}
