import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type { TenantSchema, TenantService } from "../../gen/posthorn/v1/tenant_service_pb.ts";
import type { Clock } from "../clock.ts";
import type { Database } from "../store/orm.ts";
import { createTenant, deleteTenant, getTenant, listTenants, type Tenant } from "../store/tenants.ts";
import { callerOf } from "./auth.ts";
import { type ChangeParts, changing } from "./change.ts";
import { cutPage, isRowId, pageSizeOf, readPageToken } from "./paging.ts";

export interface TenantServiceParts extends ChangeParts {
  database: Database;
  clock: Clock;
}

export function createTenantService(parts: TenantServiceParts): ServiceImpl<typeof TenantService> {
  const { database, clock } = parts;
  return {
    async createTenant(request, context) {
      const { actor } = callerOf(context);
      const created = await changing(parts, createTenant(database, actor, request.name ?? "", clock.now()));
      return { tenant: fromTenant(created) };
    },

    async getTenant(request) {
      return { tenant: fromTenant(await getTenant(database, request.name ?? "")) };
    },

    async listTenants(request) {
      const list = ["tenants"];
      const beforeId = readPageToken(request.pageToken, list, isRowId);
      const size = pageSizeOf(request.pageSize);
      const found = await listTenants(database, {
        limit: size + 1,
        beforeId: beforeId === null ? null : Number(beforeId),
      });
      const { page, nextPageToken } = cutPage(found, size, list);
      return { tenants: page.map(fromTenant), nextPageToken };
    },

    async deleteTenant(request, context) {
      const { actor } = callerOf(context);
      await changing(parts, deleteTenant(database, actor, request.name ?? "", request.force, clock.now()));
      return {};
    },
  };
}

function fromTenant(tenant: Tenant): MessageInitShape<typeof TenantSchema> {
  return { id: tenant.id, name: tenant.name, createdAt: tenant.createdAt.getTime() };
}
