function give(tag, time, record)
    return 2, time, {
        a = 1.9, b = -1.9, other = 1.9, c = {}, d = {k = "v"}, e = {},
        inner = {a = 2.5, c = {}, list = {{a = 3.5}}, b = "2.5"},
        got = record.got,
    }
end
