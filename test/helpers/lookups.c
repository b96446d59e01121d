// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
/* Preloaded before libc: logs every host name that a process looks up, and finds none. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_name(const char *node)
{
    unsigned char address[sizeof(struct in6_addr)];
    return node != NULL && inet_pton(AF_INET, node, address) != 1 &&
           inet_pton(AF_INET6, node, address) != 1;
}

static void note(const char *node)
{
    FILE *file = fopen(getenv("LOOKUPS"), "a");
    if (file != NULL) {
        fprintf(file, "%s %s\n", program_invocation_short_name, node);
        fclose(file);
    }
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (is_name(node)) {
        note(node);
        return EAI_NONAME;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, found);
}

struct hostent *gethostbyname(const char *node)
{
    note(node);
    h_errno = HOST_NOT_FOUND;
    return NULL;
}

int gethostbyname_r(const char *node, struct hostent *into, char *buffer, size_t size,
                    struct hostent **found, int *error)
{
    (void)into, (void)buffer, (void)size;
    note(node);
    *found = NULL;
    *error = HOST_NOT_FOUND;
    return HOST_NOT_FOUND;
}
