// The names a daemon holds, for async code.

public import SmallocWire

extension AsyncSmalloc {
    /// Named allocations one after another, fetched page by page.
    public struct Listing: AsyncSequence, Sendable {
        /// One line of the listing.
        public typealias Element = Smalloc.Entry
        /// What the daemon or the connection says.
        public typealias Failure = SmallocError

        let smalloc: AsyncSmalloc
        let prefix: String
        let limit: UInt64

        /// Starts a listing.
        public func makeAsyncIterator() -> Iterator { Iterator(listing: self) }

        /// Where a listing has got to.
        public struct Iterator: AsyncIteratorProtocol {
            let listing: AsyncSmalloc.Listing
            private var page: ArraySlice<Smalloc.Entry> = []
            private var cursor: UInt64? = 0

            init(listing: AsyncSmalloc.Listing) { self.listing = listing }

            /// The next entry; nil after the last.
            ///
            /// - Throws: `.invalidName` for a prefix that no name can have; `.cancelled`; transport
            ///   errors. After that comes nothing more.
            public mutating func next() async throws(SmallocError) -> Smalloc.Entry? {
                try await next(isolation: #isolation)
            }

            /// The next entry; nil after the last.
            ///
            /// See `next()`.
            public mutating func next(
                isolation actor: isolated (any Actor)?
            ) async throws(SmallocError) -> Smalloc.Entry? {
                while page.isEmpty {
                    guard let from = cursor else { return nil }
                    cursor = nil
                    let reply = try await listing.smalloc.call(
                        .list(
                            prefix: try listingPrefix(listing.prefix), cursor: from,
                            limit: listing.limit))
                    let next = try listingPage(reply.header, reply.payload)
                    page = next.entries[...]
                    cursor = next.cursor
                }
                return page.removeFirst()
            }
        }
    }
}
