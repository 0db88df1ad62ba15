import type { JsonObject } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { AuditService } from "../../gen/posthorn/v1/audit_service_pb.ts";
import { listAuditEntries } from "../store/audit.ts";
import type { Database } from "../store/orm.ts";
import { callerOf } from "./auth.ts";
import { cutPage, pageSizeOf, readPageToken } from "./paging.ts";

export interface AuditServiceParts {
  database: Database;
}

export function createAuditService({ database }: AuditServiceParts): ServiceImpl<typeof AuditService> {
  return {
    async listAuditEntries(request, context) {
      const tenantId = request.allTenants ? null : callerOf(context).tenantId;
      const list = ["audit_entries", tenantId];
      const beforeId = readPageToken(request.pageToken, list, isEntryId);
      const size = pageSizeOf(request.pageSize);
      const found = await listAuditEntries(database, tenantId, { limit: size + 1, beforeId });
      const { page, nextPageToken } = cutPage(found, size, list);
      return {
        entries: page.map(({ occurredAt, tenant, actor, action, subjectId, changes }) => ({
          occurredAt: timestampFromDate(occurredAt),
          tenant,
          actor,
          action,
          subjectId,
          changes: changes as JsonObject,
        })),
        nextPageToken,
      };
    },
  };
}

function isEntryId(text: string): boolean {
  return /^[1-9][0-9]{0,17}$/.test(text);
}
