// Memory that one thread hands another one as a descriptor, in plain C: what mapping an allocation is
// held against.
#define _GNU_SOURCE
#include "CBench.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct passer {
    int socket;
    int file;
    int processor;
};

static void *pass(void *argument) {
    struct passer *passer = argument;
    cbench_pin(&passer->processor, 1);
    char byte;
    while (recv(passer->socket, &byte, 1, 0) == 1) {
        struct iovec bytes = {&byte, 1};
        union {
            struct cmsghdr header;
            char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct msghdr message = {
            .msg_iov = &bytes,
            .msg_iovlen = 1,
            .msg_control = &control,
            .msg_controllen = sizeof control,
        };
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &passer->file, sizeof(int));
        if (sendmsg(passer->socket, &message, MSG_NOSIGNAL) != 1) break;
    }
    return NULL;
}

static int take(int socket) {
    char byte = 1;
    if (send(socket, &byte, 1, MSG_NOSIGNAL) != 1) return -1;
    struct iovec bytes = {&byte, 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int file = -1;
    if (header && header->cmsg_type == SCM_RIGHTS) {
        memcpy(&file, CMSG_DATA(header), sizeof file);
    }
    return file;
}

/// A file of so many bytes, all of them touched, or -1.
static int touched_file(size_t size) {
    int file = memfd_create("passing", MFD_CLOEXEC);
    if (file < 0) return -1;
    void *bytes = MAP_FAILED;
    if (ftruncate(file, (off_t)size) == 0) {
        bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    if (bytes == MAP_FAILED) {
        close(file);
        return -1;
    }
    memset(bytes, 1, size);
    munmap(bytes, size);
    return file;
}

static int map_once(int socket, size_t size) {
    int file = take(socket);
    if (file < 0) return -1;
    volatile char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (bytes == MAP_FAILED) return -1;
    char first = bytes[0];
    munmap((void *)bytes, size);
    return first == 1 ? 0 : -1;
}

double cbench_passing(int server, int client, size_t size, uint32_t rounds) {
    int pair[2];
    int file = touched_file(size);
    if (file < 0) return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        close(file);
        return -1;
    }
    struct passer passer = {pair[0], file, server};
    pthread_t thread;
    double result = -1;
    if (cbench_pin(&client, 1) == 0 && pthread_create(&thread, NULL, pass, &passer) == 0) {
        struct timespec start, end;
        uint32_t done = 0;
        clock_gettime(CLOCK_MONOTONIC, &start);
        while (done < rounds && map_once(pair[1], size) == 0) done++;
        clock_gettime(CLOCK_MONOTONIC, &end);
        shutdown(pair[1], SHUT_RDWR);
        pthread_join(thread, NULL);
        if (done == rounds) {
            result = ((double)(end.tv_sec - start.tv_sec) * 1e9
                         + (double)(end.tv_nsec - start.tv_nsec))
                / rounds;
        }
    }
    close(pair[0]);
    close(pair[1]);
    close(file);
    return result;
}
