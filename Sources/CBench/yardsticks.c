// What the machine does without any server: the figures that the daemon is held against.
#define _GNU_SOURCE
#include "CBench.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/// 0, or -1 if the stream ended or failed.
static int move_all(int fd, char *bytes, size_t size, int sending) {
    while (size > 0) {
        ssize_t n = sending ? send(fd, bytes, size, MSG_NOSIGNAL) : recv(fd, bytes, size, 0);
        if (n <= 0) {
            if (n < 0 && errno == EINTR)
                continue;
            return -1;
        }
        bytes += n;
        size -= (size_t)n;
    }
    return 0;
}

/// Pages that are there already, huge ones if asked for and to be had.
static char *warm_pages(size_t size, int huge) {
    size_t alignment = 2u << 20;
    size_t rounded = (size + alignment - 1) / alignment * alignment;
    char *pages = aligned_alloc(alignment, rounded);
    if (pages == NULL)
        return NULL;
    madvise(pages, rounded, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    memset(pages, 0x5a, rounded);
    return pages;
}

/// Zeroed memory; there is no going on without.
static char *zeroed(size_t size) {
    char *bytes = calloc(1, size);
    if (bytes == NULL)
        abort();
    return bytes;
}

/// A thread; there is no going on without.
static pthread_t started(void *(*body)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, argument) != 0)
        abort();
    return thread;
}

/// Binds the calling thread to its processor: figures of another one would mislead.
static void pin(int processor) {
    if (cbench_pin(&processor, 1) != 0)
        abort();
}

struct echo {
    int fd, processor;
    size_t request, reply;
};

static void *answer(void *argument) {
    struct echo *echo = argument;
    pin(echo->processor);
    char *bytes = zeroed(echo->request + echo->reply);
    while (move_all(echo->fd, bytes, echo->request, 0) == 0)
        if (move_all(echo->fd, bytes + echo->request, echo->reply, 1) != 0)
            break;
    free(bytes);
    close(echo->fd);
    return NULL;
}

struct asker {
    int fd, processor;
    size_t request, reply, capacity;
    double seconds;
    uint32_t *times;
    uint64_t elapsed;
    int64_t done;
};

static void *ask(void *argument) {
    struct asker *asker = argument;
    pin(asker->processor);
    char *bytes = zeroed(asker->request + asker->reply);
    uint64_t start = nanoseconds(), end = start + (uint64_t)(asker->seconds * 1e9), now = start;
    int64_t done = 0;
    while (now < end) {
        if (move_all(asker->fd, bytes, asker->request, 1) != 0 ||
            move_all(asker->fd, bytes + asker->request, asker->reply, 0) != 0) {
            done = -1;
            break;
        }
        uint64_t then = now;
        now = nanoseconds();
        if ((size_t)done < asker->capacity)
            asker->times[done] = (uint32_t)(now - then);
        done++;
    }
    asker->elapsed = now - start;
    asker->done = done;
    free(bytes);
    close(asker->fd);
    return NULL;
}

int64_t cbench_ping_pong(int serverProcessor, int clientProcessor, size_t requestSize,
                         size_t replySize, double seconds, uint32_t *times, size_t capacity,
                         uint64_t *elapsed) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    struct echo echo = {pair[0], serverProcessor, requestSize, replySize};
    struct asker asker = {pair[1],  clientProcessor, requestSize, replySize,
                          capacity, seconds,         times,       0,
                          -1};
    pthread_t server = started(answer, &echo), client = started(ask, &asker);
    pthread_join(client, NULL);
    pthread_join(server, NULL);
    *elapsed = asker.elapsed;
    return asker.done;
}

struct sender {
    int fd, processor;
    size_t size;
    double seconds;
};

static void *send_messages(void *argument) {
    struct sender *sender = argument;
    pin(sender->processor);
    char *bytes = warm_pages(sender->size, 1);
    uint64_t end = nanoseconds() + (uint64_t)(sender->seconds * 1e9);
    if (bytes != NULL)
        while (nanoseconds() < end)
            if (move_all(sender->fd, bytes, sender->size, 1) != 0)
                break;
    free(bytes);
    close(sender->fd);
    return NULL;
}

struct receiver {
    int fd, processor;
    size_t size;
    double rate;
};

static void *receive_messages(void *argument) {
    struct receiver *receiver = argument;
    pin(receiver->processor);
    char *bytes = warm_pages(receiver->size, 1);
    // The first message is not counted: it waits for the sender's pages.
    if (bytes != NULL && move_all(receiver->fd, bytes, receiver->size, 0) == 0) {
        uint64_t start = nanoseconds(), now = start;
        double moved = 0;
        while (move_all(receiver->fd, bytes, receiver->size, 0) == 0) {
            moved += (double)receiver->size;
            now = nanoseconds();
        }
        receiver->rate = now > start ? moved * 1e9 / (double)(now - start) : -1;
    }
    free(bytes);
    close(receiver->fd);
    return NULL;
}

double cbench_stream(int senderProcessor, int receiverProcessor, size_t size, double seconds) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    struct sender sender = {pair[0], senderProcessor, size, seconds};
    struct receiver receiver = {pair[1], receiverProcessor, size, -1};
    pthread_t from = started(send_messages, &sender), to = started(receive_messages, &receiver);
    pthread_join(from, NULL);
    pthread_join(to, NULL);
    return receiver.rate;
}

struct mover {
    int processor, huge;
    size_t size;
    double seconds, rate;
};

static void *move_memory(void *argument) {
    struct mover *mover = argument;
    pin(mover->processor);
    char *from = warm_pages(mover->size, mover->huge), *to = warm_pages(mover->size, mover->huge);
    if (from != NULL && to != NULL) {
        // Hidden from the compiler, so that every round is done.
        void *(*volatile move)(void *, const void *, size_t) = memmove;
        move(to, from, mover->size);
        uint64_t start = nanoseconds(), now = start;
        int64_t rounds = 0;
        while (rounds < 3 || (double)(now - start) < mover->seconds * 1e9) {
            move(to, from, mover->size);
            rounds++;
            now = nanoseconds();
        }
        mover->rate = (double)rounds * (double)mover->size * 1e9 / (double)(now - start);
    }
    free(from);
    free(to);
    return NULL;
}

double cbench_memmove(int processor, size_t size, int huge, double seconds) {
    struct mover mover = {processor, huge, size, seconds, -1};
    pthread_join(started(move_memory, &mover), NULL);
    return mover.rate;
}
