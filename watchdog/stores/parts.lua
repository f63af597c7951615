#!lua name=watchdog_@VERSION@
-- What a daemon does to a part of the agents, each in one step. Rows are opaque here: nothing is decided but who may
-- write, and that nothing is lost or written twice. The number of the version is in every name, so that two versions
-- can be used side by side while a deployment is rolled.
--
-- A part is a hash: `owner` and `fence` of who has it, `until` (server time, ms) when that ends, and `version`, the number
-- of its writes. A fence is a number that rises, and the owner: a server that has lost writes may give a number twice.
-- `run` is that of the server on which it was taken last, and `doubt` is there from when it was taken on another one until
-- it is written to: the last writes may be lost. `rows` is the version of the last write of rows and how many each table
-- had after it: a server that drops keys to make room drops one of them, and no version differs.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function number_of(fence)
  return tonumber(string.match(fence or '0', '^%d+'))
end

-- Nothing and the part's `rows` if the caller has the part and knows of all its writes; else the answer to give.
local function admit(part, fence, version)
  local found = redis.call('HMGET', part, 'fence', 'version', 'owner', 'rows')
  if not found[1] or number_of(found[1]) < number_of(fence) then
    return {'GONE'}
  elseif found[1] ~= fence then
    return {'FENCED', found[3]}
  elseif found[2] ~= version then
    return {'OTHER', found[2]}
  end
  return nil, found[4]
end

local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
end

local function written(part, version, lease_ms)
  local number = string.format('%.0f', version + 1)
  redis.call('HSET', part, 'version', number, 'until', string.format('%.0f', now_ms() + lease_ms))
  return {'OK', number}
end

-- How many rows each table has when the part has so many writes. KEYS: as `write`.
local function counted(keys, version)
  local found = {version}
  for number = 2, 6 do
    found[number] = redis.call('HLEN', keys[number])
  end
  return table.concat(found, ' ')
end

-- Sections of arguments: a count, then so many.
local function sections(args, at)
  return function()
    local first, count = at + 1, tonumber(args[at])
    at = first + count
    return first, at - 1
  end
end

-- Calls a command with arguments in chunks, as Lua's stack is limited. 1,000 is even: no pair is torn.
local function call(command, key, args, first, last)
  while first <= last do
    local to = math.min(first + 999, last)
    redis.call(command, key, unpack(args, first, to))
    first = to + 1
  end
end

-- KEYS: part. ARGV: owner, milliseconds of the lease, and the fence that the owner had, or 0.
-- Returns TAKEN with fence, version and something if its last writes may be lost, or HELD with its owner and the milliseconds that are left. More than the lease is
-- left only if the time was set back: it ends a lease from now, unless its owner renews it.
local function take(keys, args)
  local found = redis.call('HMGET', keys[1], 'owner', 'until', 'fence', 'version', 'run', 'doubt')
  local now = now_ms()
  if found[1] and found[1] ~= args[1] and tonumber(found[2]) > now then
    local left = math.min(tonumber(found[2]) - now, math.max(0, tonumber(args[2])))
    redis.call('HSET', keys[1], 'until', string.format('%.0f', now + left))
    return {'HELD', found[1], string.format('%.0f', left)}
  end
  local number = math.max(number_of(found[3]), number_of(args[3])) + 1
  local fence = string.format('%.0f', number) .. ' ' .. args[1]
  local version = found[4] or '0'
  local run = run_id()
  local doubt = found[6] or (found[5] and found[5] ~= run and 'doubt') or ''
  redis.call('HSET', keys[1], 'owner', args[1], 'fence', fence, 'version', version, 'until',
    string.format('%.0f', now + args[2]), 'run', run)
  if doubt ~= '' then
    redis.call('HSET', keys[1], 'doubt', doubt)
  end
  return {'TAKEN', fence, version, doubt}
end

-- KEYS: part. ARGV: fence. Lets the part go at once.
local function leave(keys, args)
  if redis.call('HGET', keys[1], 'fence') == args[1] then
    redis.call('HSET', keys[1], 'until', '0')
  end
  return {'OK'}
end

-- KEYS: part, then a hash for each table: agents, sessions, changes, outbox, claims.
-- ARGV: fence, version, milliseconds of the lease; 1 to drop all but the outbox first; for each of the first four tables a section of fields to
-- drop and one of pairs to put; then claims to put (pairs), claims to drop (with the highest token that may be dropped),
-- and changes to drop if they are still what they were (pairs). Where a table has lost rows since the last write it is GONE
-- as well, unless all is written anew; what another version of this library has written last it did not count.
local function write(keys, args)
  local refused, rows = admit(keys[1], args[1], args[2])
  if refused then
    return refused
  end
  if args[4] == '1' then
    redis.call('DEL', keys[2], keys[3], keys[4], keys[6])
  elseif rows and string.match(rows, '^%d+') == args[2] and rows ~= counted(keys, args[2]) then
    return {'GONE'}
  end
  local section = sections(args, 5)
  for number = 2, 5 do
    local first, last = section()
    call('HDEL', keys[number], args, first, last)
    first, last = section()
    call('HSET', keys[number], args, first, last)
  end
  local first, last = section()
  call('HSET', keys[6], args, first, last)
  first, last = section()
  for at = first, last, 2 do
    local token = string.match(redis.call('HGET', keys[6], args[at]) or '', '^%d+')
    if token and tonumber(token) <= tonumber(args[at + 1]) then
      redis.call('HDEL', keys[6], args[at])
    end
  end
  first, last = section()
  for at = first, last, 2 do
    if redis.call('HGET', keys[4], args[at]) == args[at + 1] then
      redis.call('HDEL', keys[4], args[at])
    end
  end
  local answer = written(keys[1], args[2], args[3])
  redis.call('HSET', keys[1], 'rows', counted(keys, answer[2]))
  return answer
end

-- As `write`, of what is known of the part's agents: what is written of them from here on is not in doubt.
local function settle(keys, args)
  local answer = write(keys, args)
  if answer[1] == 'OK' then
    redis.call('HDEL', keys[1], 'doubt')
  end
  return answer
end

-- KEYS from `at` on: those of `add_notes` but for the first. Drops the actions with these ids.
local function drop_notes(keys, at, args, first, last)
  local rows, ids, numbers, times, by_agent, by_outcome = unpack(keys, at, at + 5)
  for number = first, last do
    local id = args[number]
    local row = redis.call('HGET', rows, id)
    if row then
      local known, columns = pcall(cjson.decode, row)
      if known and type(columns) == 'table' then
        redis.call('ZREM', by_agent, tostring(columns[3]) .. '/' .. tostring(columns[4]) .. '\0' .. id)
        redis.call('ZREM', by_outcome, tostring(columns[7]) .. '\0' .. id)
      end
      redis.call('HDEL', rows, id)
    end
    redis.call('ZREM', ids, id)
    redis.call('ZREM', numbers, id)
    redis.call('ZREM', times, id)
  end
end

-- KEYS from `at` on: meta, actions (hash by id), ids, numbers, times, by agent, by outcome (sorted sets).
-- ARGV from `from` on: least number that was ever given; a section of meta to put (pairs), one of meta to drop, one of
-- actions to add (id, time, agent, outcome, row), and one of ids of actions to drop.
-- Returns the highest number that was ever given.
local function add_notes(keys, at, args, from)
  local meta, rows, ids, numbers, times, by_agent, by_outcome = unpack(keys, at, at + 6)
  local section = sections(args, from + 1)
  local first, last = section()
  call('HSET', meta, args, first, last)
  first, last = section()
  call('HDEL', meta, args, first, last)
  local given = math.max(tonumber(redis.call('HGET', meta, 'number') or 0), tonumber(args[from]))
  local before = given
  first, last = section()
  for at = first, last, 5 do
    local id = args[at]
    if redis.call('HSETNX', rows, id, args[at + 4]) == 1 then
      given = given + 1
      redis.call('ZADD', ids, 0, id)
      redis.call('ZADD', numbers, given, id)
      redis.call('ZADD', times, args[at + 1], id)
      redis.call('ZADD', by_agent, 0, args[at + 2] .. '\0' .. id)
      redis.call('ZADD', by_outcome, 0, args[at + 3] .. '\0' .. id)
    end
  end
  local number = string.format('%.0f', given)
  if given > before or tonumber(args[from]) > 0 then
    redis.call('HSET', meta, 'number', number)
  end
  first, last = section()
  drop_notes(keys, at + 1, args, first, last)
  return number
end

-- KEYS: part, then those of `add_notes`. ARGV: fence, version, milliseconds of the lease, then those of `add_notes`.
-- The meta table is told when that was. Returns as `write` does, with the highest number that was ever given.
local function note(keys, args)
  local refused = admit(keys[1], args[1], args[2])
  if refused then
    return refused
  end
  local number = add_notes(keys, 2, args, 4)
  redis.call('HSET', keys[2], 'noted_at', string.format('%.0f', now_ms()))
  local answer = written(keys[1], args[2], args[3])
  answer[3] = number
  return answer
end

-- As `note`, by anybody: what is added to the history is there once, by its id.
local function log(keys, args)
  return {'OK', add_notes(keys, 1, args, 1)}
end

-- KEYS: those of `add_notes` but for meta. ARGV: ids of actions to drop.
local function forget(keys, args)
  drop_notes(keys, 1, args, 1, #args)
  return {'OK'}
end

-- KEYS: meta. ARGV: fields and values. What is not there yet is put there. Returns what is there, in order.
local function agree(keys, args)
  local found = {}
  for at = 1, #args, 2 do
    redis.call('HSETNX', keys[1], args[at], args[at + 1])
    found[#found + 1] = redis.call('HGET', keys[1], args[at])
  end
  return found
end

-- KEYS: replicas (hash by name), meta, part of all. ARGV: name, 1 if it is to be registered already, what it tells, and
-- after how many milliseconds a replica is not heard of: it is not either after the time was set back, until it reports.
-- Returns DROPPED if it is registered no more; else OK, the time, how long ago the meta table was noted (or -1), how
-- long the part of all is still somebody's, its owner, the clock and what is shared (or ''), then of each replica its
-- name, how long ago it reported, and what it told.
local function report(keys, args)
  local now = now_ms()
  if args[2] == '1' and redis.call('HEXISTS', keys[1], args[1]) == 0 then
    return {'DROPPED', string.format('%.0f', now)}
  end
  redis.call('HSET', keys[1], args[1], string.format('%.0f', now) .. ' ' .. args[3])
  local meta = redis.call('HMGET', keys[2], 'noted_at', 'clock', 'shared')
  local part = redis.call('HMGET', keys[3], 'until', 'owner')
  local found = {'OK', string.format('%.0f', now), meta[1] and string.format('%.0f', now - tonumber(meta[1])) or '-1',
    string.format('%.0f', tonumber(part[1] or 0) - now), part[2] or '', meta[2] or '', meta[3] or ''}
  local all = redis.call('HGETALL', keys[1])
  for at = 1, #all, 2 do
    local when, told = string.match(all[at + 1], '^(%d+) (.*)$')
    local age = now - tonumber(when or 0)
    if age < 0 then
      age = tonumber(args[4])
      redis.call('HSET', keys[1], all[at], string.format('%.0f', now - age) .. ' ' .. told)
    end
    found[#found + 1] = all[at]
    found[#found + 1] = string.format('%.0f', age)
    found[#found + 1] = told or ''
  end
  return found
end

-- KEYS: replicas. ARGV: name, and the least milliseconds since its last report (0 for its own wish).
local function drop(keys, args)
  local found = redis.call('HGET', keys[1], args[1])
  local when = found and string.match(found, '^(%d+) ')
  if found and (args[2] == '0' or not when or now_ms() - tonumber(when) >= tonumber(args[2])) then
    redis.call('HDEL', keys[1], args[1])
    return {'OK'}
  end
  return {'KEPT'}
end

-- KEYS: inbox. ARGV: milliseconds for which it is kept, and a message. It is stamped with the time.
local function post(keys, args)
  redis.call('RPUSH', keys[1], string.format('%.0f', now_ms()) .. ' ' .. args[2])
  redis.call('PEXPIRE', keys[1], args[1])
  return {'OK'}
end

-- KEYS: bucket (hash). ARGV: how many to take, or -1 for a 429; tokens a second, most tokens, part of the rate that comes
-- back in a second, and the least part. As `core/quota.py`, by the server's time.
-- Returns 0 when they were taken, else the seconds after which to ask again.
local function tokens(keys, args)
  local count, rate, burst, recovery, least = tonumber(args[1]), tonumber(args[2]), tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local now = now_ms() / 1000
  local found = redis.call('HMGET', keys[1], 'tokens', 'at', 'factor')
  local left, at, factor = tonumber(found[1] or 0), tonumber(found[2] or now), tonumber(found[3] or 1)
  local elapsed = math.max(0, now - at)
  left = math.min(burst, left + elapsed * rate * factor)
  factor = math.min(1, factor + elapsed * recovery)
  local wait = 0
  if count < 0 then
    left, factor = 0, math.max(least, factor / 2)
  elseif left >= count - 1e-9 then
    left = math.max(0, left - count)
  else
    wait = (count - left) / (rate * factor)
  end
  redis.call('HSET', keys[1], 'tokens', string.format('%.17g', left), 'at', string.format('%.17g', now), 'factor', string.format('%.17g', factor))
  redis.call('PEXPIRE', keys[1], 3600000)
  return {string.format('%.17g', wait)}
end

-- KEYS: actions, and the sorted set to read them from. ARGV: what its members begin with, the id that the page comes
-- after or '', and how many. Returns ids and rows in turn, newest first.
local function actions(keys, args)
  local prefix = args[1]
  local upper = args[2] ~= '' and '(' .. prefix .. args[2] or prefix == '' and '+' or '(' .. string.sub(prefix, 1, -2) .. '\1'
  local lower = prefix == '' and '-' or '[' .. prefix
  local found = {}
  for _, member in ipairs(redis.call('ZREVRANGEBYLEX', keys[2], upper, lower, 'LIMIT', 0, args[3])) do
    local id = string.sub(member, #prefix + 1)
    found[#found + 1] = id
    found[#found + 1] = redis.call('HGET', keys[1], id) or ''
  end
  return found
end

-- KEYS: actions, numbers, meta. ARGV: the number after which the page begins, and how many.
-- Returns the highest number that was ever given, then numbers and rows in turn, lowest first.
local function recorded(keys, args)
  local found = {redis.call('HGET', keys[3], 'number') or '0'}
  local page = redis.call('ZRANGEBYSCORE', keys[2], '(' .. args[1], '+inf', 'WITHSCORES', 'LIMIT', 0, args[2])
  for at = 1, #page, 2 do
    found[#found + 1] = page[at + 1]
    found[#found + 1] = redis.call('HGET', keys[1], page[at]) or ''
  end
  return found
end

-- What is done where the memory is full, too: it frees some, or puts again what was there before. So whoever is there stays
-- registered and keeps its parts, whoever goes says so, and the history that fills the memory can be dropped. `renew` is
-- `write` without a row, and `note` is `record` without an action.
redis.register_function{function_name = 'wd_take_@VERSION@', callback = take, flags = {'allow-oom'}}
redis.register_function{function_name = 'wd_leave_@VERSION@', callback = leave, flags = {'allow-oom'}}
redis.register_function{function_name = 'wd_renew_@VERSION@', callback = write, flags = {'allow-oom'}}
redis.register_function{function_name = 'wd_note_@VERSION@', callback = note, flags = {'allow-oom'}}
redis.register_function{function_name = 'wd_forget_@VERSION@', callback = forget, flags = {'allow-oom'}}
redis.register_function{function_name = 'wd_agree_@VERSION@', callback = agree, flags = {'allow-oom'}}
redis.register_function{function_name = 'wd_report_@VERSION@', callback = report, flags = {'allow-oom'}}
redis.register_function{function_name = 'wd_drop_@VERSION@', callback = drop, flags = {'allow-oom'}}
redis.register_function('wd_write_@VERSION@', settle)
redis.register_function('wd_record_@VERSION@', note)
redis.register_function('wd_log_@VERSION@', log)
redis.register_function('wd_post_@VERSION@', post)
redis.register_function('wd_tokens_@VERSION@', tokens)
redis.register_function{function_name = 'wd_actions_@VERSION@', callback = actions, flags = {'no-writes'}}
redis.register_function{function_name = 'wd_recorded_@VERSION@', callback = recorded, flags = {'no-writes'}}
