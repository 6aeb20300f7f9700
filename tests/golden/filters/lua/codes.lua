-- Returns the code, and the time, that a record names.
function decide(tag, time, record)
    local code, at = record.code, record.at
    record.seen = true
    if record.returns == "nothing" then
        return
    elseif record.returns == "code" then
        return code
    elseif record.returns == "text" then
        return tostring(code), tostring(at), record
    end
    return code, at or time, record
end
