// What the bench needs and Swift can't import or should not do: placing threads on processors,
// starting a server on given processors, and the yardsticks in plain C.
#ifndef CBENCH_H
#define CBENCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// The processors that the calling thread may run on, ascending, into `out`; the number of them.
int cbench_processors(int *out, int capacity);

/// Binds the calling thread to the given processors. 0, or -1 with errno.
int cbench_pin(const int *processors, int count);

/// Gives the calling thread real-time priority, or takes it away. 0, or -1 with errno (which is
/// usual for one who is not root; the caller goes on without).
int cbench_set_realtime(int on);

/// Starts a program on the given processors with both outputs appended to `log`. It is killed when
/// the calling thread ends, however that ends. The process id, or -1 with errno.
pid_t cbench_spawn(char *const arguments[], const int *processors, int count, const char *log);

/// A descriptor that tells which sockets have something to read (epoll), or -1 with errno.
int cbench_poll_create(void);

/// Watches `fd`; `tag` is what waiting tells of it. 0, or -1 with errno.
int cbench_poll_add(int poll, int fd, void *tag);

/// Waits for at most `milliseconds`, -1 for ever, and puts the tags of up to `capacity` sockets
/// into `tags`; `capacity` is at most 64. The number of them, or -1 with errno.
int cbench_poll_wait(int poll, void **tags, int capacity, int milliseconds);

/// Exchanges `requestSize` for `replySize` bytes between two threads over a socket pair, one at a
/// time, blocking, for `seconds`. Round trips done; the first `capacity` of their times in
/// nanoseconds go to `times`, the whole time to `elapsed`. -1 with errno if something failed.
int64_t cbench_ping_pong(int serverProcessor, int clientProcessor, size_t requestSize,
                         size_t replySize, double seconds, uint32_t *times, size_t capacity,
                         uint64_t *elapsed);

/// Sends messages of `size` bytes one way from one thread to another over a socket pair for
/// `seconds`, each from and into one warm buffer of that size. Bytes a second, or -1 with errno.
double cbench_stream(int senderProcessor, int receiverProcessor, size_t size, double seconds);

/// Moves `size` bytes between two warm mappings for `seconds` (at least 3 times), on one
/// processor; `huge` asks for transparent huge pages. Bytes a second, or -1 with errno.
double cbench_memmove(int processor, size_t size, int huge, double seconds);

/// Serves as a peer that only answers: after every `requestSize` bytes of a connection it sends
/// `reply`. If `cookieOffset` is not negative, the eight bytes there in the request are put at the
/// same place in the reply. Requests and replies of more than 64 KiB are received into and sent
/// from one warm buffer a connection. Returns only on failure, -1 with errno.
int cbench_null_server(int listener, size_t requestSize, const void *reply, size_t replySize,
                       long cookieOffset);

/// Has two threads, on a processor each, take turns by two words of shared memory, one store for
/// each turn: the other thread asks its word again and again, or sleeps on it by a futex. Before each
/// turn a thread works for `work` nanoseconds. The nanoseconds of a turn beside the work, or -1 with
/// errno.
double cbench_turns(int first, int second, uint32_t rounds, int sleeps, uint64_t work);

/// Has a thread ask another one, each on a processor, for a descriptor of `size` bytes of touched
/// memory, map it, read its first byte and unmap it, `rounds` times. The nanoseconds of one, or -1
/// with errno.
double cbench_passing(int server, int client, size_t size, uint32_t rounds);

/// Works for so many nanoseconds.
void cbench_work(uint64_t nanoseconds);

#endif
