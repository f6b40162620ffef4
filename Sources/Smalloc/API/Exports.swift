// What of the protocol's vocabulary a user of the client sees: these words and no codec.

@_exported public import enum SmallocWire.Address
@_exported public import enum SmallocWire.ElementType
@_exported public import enum SmallocWire.ErrorClass
@_exported public import struct SmallocWire.Limits
@_exported public import struct SmallocWire.SmallocError
@_exported public import struct SmallocWire.Status
