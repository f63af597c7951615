-- Heartbeats for wrk: rotates over the sessions of a file, with a `seq` that rises by one each time round.
--
--   wrk … -s heartbeats.lua URL -- FILE SEQ
--
-- FILE has two lines a session: the request up to the `seq`, and the rest of it, both in JSON strings' escapes as far
-- as line ends go (\r\n as "\r", "\n"). SEQ has seven digits, so that every request of a session has one length.

local heads, tails = {}, {}
local index, seq, count = 0, 0, 0

function init(args)
  local file = assert(io.open(args[1], "r"))
  while true do
    local head, tail = file:read("*l", "*l")
    if not tail then break end
    count = count + 1
    heads[count] = head:gsub("\\r", "\r"):gsub("\\n", "\n")
    tails[count] = tail:gsub("\\r", "\r"):gsub("\\n", "\n")
  end
  file:close()
  seq = tonumber(args[2])
end

function request()
  index = index + 1
  if index > count then
    index = 1
    seq = seq + 1
  end
  return heads[index] .. seq .. tails[index]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nresult {"requests":%d,"bytes":%d,"elapsed_us":%d,"bad_status":%d,"broken":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.bytes, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
