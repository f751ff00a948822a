/** The kinds of fields that the values of the Helm chart have. */
import { z } from "zod";

export const flag = (value: boolean, description: string) => z.boolean().default(value).meta({ description });
export const text = (value: string, description: string) => z.string().default(value).meta({ description });
export const whole = (minimum: number, maximum: number, value: number, description: string) =>
  z.int().min(minimum).max(maximum).default(value).meta({ description });
export const labels = (description: string) =>
  z.record(z.string(), z.string()).default({}).meta({ description });
/** Kubernetes checks these, in more detail than a copy of its schema here would. */
export const asInPod = (description: string) =>
  z.record(z.string(), z.unknown()).default({}).meta({ description });
export const listAsInPod = (description: string) =>
  z.array(z.record(z.string(), z.unknown())).default([]).meta({ description });
export const port = z.int().min(1).max(65_535);
export const group = <S extends z.ZodRawShape>(description: string, shape: S) =>
  z
    .strictObject(shape)
    .prefault({} as never)
    .meta({ description });
