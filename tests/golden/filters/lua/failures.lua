-- What is no record, in many ways. Nothing of it must change the record.
local ways = {
    raises = function() error("raised") end,
    raises_table = function() error({1}) end,
    index = function(time, record) return 2, time, record.a.b.c end,
    text = function(time) return 2, time, "text" end,
    number = function(time) return 2, time, 5 end,
    none = function(time) return 2, time, nil end,
    holds_function = function(time) return 2, time, {a = print, b = 1} end,
    is_function = function(time) return 2, time, print end,
    holds_thread = function(time) return 2, time, {a = coroutine.create(print)} end,
    holds_cdata = function(time) return 2, time, {a = 1LL} end,
    split_text = function(time) return 2, time, {{a = 1}, "text"} end,
    split_array = function(time) return 2, time, {{a = 1}, {1, 2}} end,
    code = function(time) return 5, time, {a = 1} end,
    code_negative = function(time) return -2, time, {a = 1} end,
    time_negative = function(time) return 1, -5, {a = 1} end,
    code_only = function() return 2 end,
}

function fail(tag, time, record)
    record.seen = true
    return ways[record.way](time, record)
end
