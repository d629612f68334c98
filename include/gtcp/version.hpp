// SPDX-License-Identifier: MIT
#ifndef GTCP_VERSION_HPP
#define GTCP_VERSION_HPP

// The version of gtcp. CMake reads it from here, so that there is one place that says it.

#define GTCP_VERSION_MAJOR 0
#define GTCP_VERSION_MINOR 1
#define GTCP_VERSION_PATCH 0

/// The version as one number that compares: major * 10000 + minor * 100 + patch.
#define GTCP_VERSION (GTCP_VERSION_MAJOR * 10000 + GTCP_VERSION_MINOR * 100 + GTCP_VERSION_PATCH)

/// The version as text, "major.minor.patch".
#define GTCP_VERSION_STRING "0.1.0"

#endif
