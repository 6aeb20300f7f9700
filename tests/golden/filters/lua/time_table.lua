function move(tag, time, record)
    record.sec, record.nsec = time.sec, time.nsec
    if record.way == "number" then
        return 1, 5, record
    elseif record.way == "keep_number" then
        return 2, 5, record
    elseif record.way == "keep" then
        return 2, time, record
    elseif record.way == "empty" then
        return 1, {}, record
    elseif record.way == "late" then
        return 1, {sec = time.sec, nsec = 1500000000}, record
    elseif record.way == "zero" then
        return 0, 5, record
    end
    time.sec = time.sec + 60
    return 1, time, record
end
