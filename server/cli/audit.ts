import type { Command } from "commander";
import { AuditEntrySchema, AuditService } from "../../gen/posthorn/v1/audit_service_pb.ts";
import { addListCommand, type ListOptions, open, printList } from "./command.ts";
import { showTime } from "./output.ts";

export function addAudit(audit: Command): void {
  addListCommand(audit, "lists changes of webhooks, clients, keys and tenants")
    .option("--all-tenants", "of all tenants, deleted ones included")
    .action(async (options: ListOptions & { allTenants?: true }) => {
      const service = open(options).client(AuditService);
      await printList(
        {
          ask: async (page) => {
            const allTenants = options.allTenants === true;
            const { entries: items, nextPageToken } = await service.listAuditEntries({ ...page, allTenants });
            return { items, nextPageToken };
          },
          item: AuditEntrySchema,
          columns: ["TIME", "TENANT", "ACTOR", "ACTION", "SUBJECT", "CHANGES"],
          toRow: (entry) => [
            showTime(entry.occurred_at),
            String(entry.tenant),
            String(entry.actor),
            String(entry.action),
            String(entry.subject_id),
            JSON.stringify(entry.changes ?? {}),
          ],
          tableLimit: 50,
        },
        options,
      );
    });
}
