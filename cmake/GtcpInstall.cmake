# SPDX-License-Identifier: MIT
#
# Install rules: headers, CMake package (components core, json and tls), pkg-config file.

include(CMakePackageConfigHelpers)

# Headers only: the same files for every architecture.
set(_gtcp_cmake_dir "${CMAKE_INSTALL_DATADIR}/cmake/gtcp")
set(_gtcp_pkgconfig_dir "${CMAKE_INSTALL_DATADIR}/pkgconfig")

install(
  DIRECTORY "${PROJECT_SOURCE_DIR}/include/gtcp"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING
  PATTERN "*.hpp")

# One export set a component: find_package(gtcp COMPONENTS core) must not ask for nlohmann/json.
install(TARGETS gtcp_core EXPORT gtcpCoreTargets)
install(TARGETS gtcp EXPORT gtcpJsonTargets)
set(_gtcp_components Core Json)
if(TARGET gtcp_tls)
  install(TARGETS gtcp_tls EXPORT gtcpTlsTargets)
  list(APPEND _gtcp_components Tls)
endif()
foreach(_component IN LISTS _gtcp_components)
  install(
    EXPORT gtcp${_component}Targets
    NAMESPACE gtcp::
    DESTINATION "${_gtcp_cmake_dir}")
endforeach()

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/gtcpConfig.cmake.in"
                              "${PROJECT_BINARY_DIR}/cmake/gtcpConfig.cmake" INSTALL_DESTINATION "${_gtcp_cmake_dir}")
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/cmake/gtcpConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion
  ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/cmake/gtcpConfig.cmake" "${PROJECT_BINARY_DIR}/cmake/gtcpConfigVersion.cmake"
              "${PROJECT_SOURCE_DIR}/cmake/Findasio.cmake" DESTINATION "${_gtcp_cmake_dir}")

# A prefix that is said relative to the file lets the installed tree be moved.
if(IS_ABSOLUTE "${_gtcp_pkgconfig_dir}")
  set(_gtcp_pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH _gtcp_pc_prefix "/${_gtcp_pkgconfig_dir}" "/")
  string(REGEX REPLACE "/$" "" _gtcp_pc_prefix "\${pcfiledir}/${_gtcp_pc_prefix}")
endif()
if(IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(_gtcp_pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
else()
  set(_gtcp_pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file("${PROJECT_SOURCE_DIR}/cmake/gtcp.pc.in" "${PROJECT_BINARY_DIR}/cmake/gtcp.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/cmake/gtcp.pc" DESTINATION "${_gtcp_pkgconfig_dir}")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/gtcp")
