/** What tests look at in a Deployment. */

interface WithContainer {
  readonly spec: {
    readonly template: {
      readonly spec: { readonly containers: readonly { env: { name: string; value?: string }[] }[] };
    };
  };
}

/** The environment of its first container. */
export function environmentOf(deployment: WithContainer): Record<string, string | undefined> {
  const { env = [] } = deployment.spec.template.spec.containers[0] ?? {};
  return Object.fromEntries(env.map(({ name, value }) => [name, value]));
}
