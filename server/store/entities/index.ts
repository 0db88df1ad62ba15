export { ApiKeySchema } from "./api-key.ts";
export { ClientSchema } from "./client.ts";
export { ClientWabaSchema } from "./client-waba.ts";
export { PhoneNumberSchema } from "./phone-number.ts";
export { TenantSchema } from "./tenant.ts";
export { WebhookSchema } from "./webhook.ts";
export { WebhookSecretSchema } from "./webhook-secret.ts";
