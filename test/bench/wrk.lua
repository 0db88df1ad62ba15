-- Posts requests that were signed beforehand, in turn. The file of the first argument holds them one after the other,
-- each behind its length in eight digits.

local requests = {}
local index = 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  while true do
    local length = file:read(8)
    if not length then break end
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
end

function request()
  index = index + 1
  return requests[(index - 1) % #requests + 1]
end

function done(summary)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("answered=%d failed=%d\n", summary.requests, failed))
end
