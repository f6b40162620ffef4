// Errors of requests that say the allocation by its name, or make one: a program that is told
// nothing but "object has no external array data" has to guess of which.

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
        let name = String(decoding: body.prefix(Int(header.nameSize)), as: UTF8.self)
        let size = operation == .alloc ? sizeText(error.status) : ""
        let text = [name, size].filter { !$0.isEmpty }.joined(separator: ": ")
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
