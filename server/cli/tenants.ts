import type { Command } from "commander";
import { TenantSchema, TenantService } from "../../gen/posthorn/v1/tenant_service_pb.ts";
import {
  addCommand,
  addListCommand,
  type CommonOptions,
  type ListOptions,
  open,
  print,
  printList,
} from "./command.ts";
import { showTime, toFields } from "./output.ts";

export function addTenants(tenants: Command): void {
  addCommand(tenants, "create", "adds a tenant")
    .argument("<name>", "name of the tenant")
    .action(async (name: string, options: CommonOptions) => {
      const { tenant } = await open(options).client(TenantService).createTenant({ name });
      print(toFields(TenantSchema, tenant), options);
    });

  addListCommand(tenants, "lists the tenants").action(async (options: ListOptions) => {
    const service = open(options).client(TenantService);
    await printList(
      {
        ask: async (page) => {
          const { tenants: items, nextPageToken } = await service.listTenants(page);
          return { items, nextPageToken };
        },
        item: TenantSchema,
        columns: ["ID", "NAME", "CREATED"],
        toRow: (tenant) => [String(tenant.id), String(tenant.name), showTime(tenant.created_at)],
      },
      options,
    );
  });

  addCommand(tenants, "delete", "removes a tenant for good; its keys die at once")
    .argument("<name>", "name of the tenant")
    .option("--force", "delete its webhooks too, and cancel what is pending")
    .action(async (name: string, options: CommonOptions & { force?: true }) => {
      await open(options)
        .client(TenantService)
        .deleteTenant({ name, force: options.force === true });
      print({ name, deleted: true }, options);
    });
}
