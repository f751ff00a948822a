/** What callbacks to message brokers have in common: login, transport security, names made of the event. */
import { z } from "zod";
import { secretKey, secretRef, tlsSecrets } from "./fields.ts";

/** What a template may hold between braces; core/delivery/destination.ts fills it in. */
const PLACEHOLDERS = "schema|table|operation";

/** Text of a pattern: one character of the set, or a placeholder, once or more. */
export const templatePart = (characters: string) => `([${characters}]|\\{(${PLACEHOLDERS})\\})+`;

export const MESSAGE_FORMATS = ["CloudEventsBinary", "CloudEventsStructured"] as const;

export const messageFormat = z.enum(MESSAGE_FORMATS).default("CloudEventsBinary").meta({
  description:
    "How an event is written into a message: CloudEventsBinary (attributes in headers) or CloudEventsStructured (one JSON object). Default: CloudEventsBinary.",
});

/** Fields of a user name with its password. */
export const loginFields = {
  secretRef: secretRef("Secret with the user name and the password."),
  username: z
    .string()
    .min(1)
    .max(256)
    .regex(/^[\x21-\x7e]+$/, "must hold printable ASCII characters only")
    .optional()
    .meta({ description: "User name. Default: the one in the Secret." }),
  usernameKey: secretKey("Key of the user name in the Secret. Default: username.").default("username"),
  passwordKey: secretKey("Key of the password in the Secret. Default: password.").default("password"),
};

/** Fields of transport security. */
export const brokerTls = (description: string) => z.strictObject(tlsSecrets).meta({ description });

export type LoginSpec = {
  readonly secretRef: { readonly name: string };
  readonly username?: string | undefined;
  readonly usernameKey: string;
  readonly passwordKey: string;
};
export type BrokerTlsSpec = z.output<ReturnType<typeof brokerTls>>;
