/** An end business of a tenant, with its numbers and accounts on WhatsApp. Its secrets never leave `store/` with it. */

export interface Client {
  id: number;
  tenantId: number;
  clientRef: string;
  /** In the order they were first seen. */
  phoneNumbers: ClientNumber[];
  /** Sorted. */
  wabaIds: string[];
  hasAccessToken: boolean;
  hasAppSecret: boolean;
  createdAt: Date;
}

export interface ClientNumber {
  phoneNumberId: string;
  /** Digits; null if not known. */
  displayPhoneNumber: string | null;
  /** Why WhatsApp lets it send nothing; absent if it may send. */
  sendsStoppedReason?: string;
}
