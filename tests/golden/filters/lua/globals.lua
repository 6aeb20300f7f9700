local upper = string.upper
count_of = {}

function later(tag, time, record)
    record.called = "later"
    return 2, time, record
end

function count(tag, time, record)
    count_of[record.k] = (count_of[record.k] or 0) + 1
    record.count = count_of[record.k]
    record.colour = upper(FLB_ENV.COLOUR)
    record.host = type(FLB_ENV.HOSTNAME)
    record.date = os.date("!%Y-%m-%d", math.floor(time))
    record.libraries = {
        jit = type(jit), debug = type(debug), ffi = type(require("ffi")), bit = type(bit), io = type(io.open),
    }
    if record.count == 3 then
        count = later
    end
    return 2, time, record
end
