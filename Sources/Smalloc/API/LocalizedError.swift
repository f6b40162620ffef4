// What Foundation says of an error that it knows as `any Error`.

#if canImport(FoundationEssentials)
    public import FoundationEssentials
#else
    public import Foundation
#endif
public import SmallocWire

extension SmallocError: LocalizedError {
    /// As `description`: Foundation gives it as `localizedDescription`.
    public var errorDescription: String? { description }
}
