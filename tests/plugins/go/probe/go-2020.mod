module probe

go 1.21

require github.com/fluent/fluent-bit-go v0.0.0-20200420155746-e125cab17963

require github.com/ugorji/go v1.1.4 // indirect
