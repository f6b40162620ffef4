// Errors of requests that say the allocation by its name, or make one: Node's words for them are
// those for an object, and say neither that no allocation has the name nor that one has it.

internal import SmallocWire

extension Request {
    /// Has an error say which allocation the request was for, and how large it was to be.
    ///
    /// What it says already stays, and so do errors of the connection.
    func explained(_ error: SmallocError) -> SmallocError {
        if error.isTransport || error.detail != nil { return error }
        guard let operation = Operation(rawValue: header.operation), operation != .list else {
            return error
        }
        var name = String(decoding: body.prefix(Int(header.nameSize)), as: UTF8.self)
        var fact = operation == .alloc ? sizeText(error.status) : ""
        switch error.status {
        case .noData where !name.isEmpty && operation != .copy:
            let isFrozen =
                operation == .open && OpenFlags(rawValue: header.flags).contains(.awaitFrozen)
            fact = "no \(isFrozen ? "frozen " : "")allocation has this name"
        case .alreadyExists:
            // What a rename finds taken is its second name.
            if operation == .rename {
                name = String(decoding: body.dropFirst(Int(header.nameSize)), as: UTF8.self)
            }
            fact = "the name is taken"
        default: break
        }
        let text = [name, fact].filter { !$0.isEmpty }.joined(separator: ": ")
        return text.isEmpty ? error : error.detailed(text)
    }

    private func sizeText(_ status: Status) -> String {
        switch status {
        case .tooLarge, .memoryLimit, .outOfMemory:
            // Of a length below 0, or over every limit, only that is known.
            header.size < overlarge ? "\(header.size) bytes" : ""
        default: ""
        }
    }
}
