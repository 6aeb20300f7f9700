module probe

go 1.21

require github.com/fluent/fluent-bit-go v0.0.0-20190614024040-c017a8579953

require github.com/ugorji/go v1.1.4 // indirect
