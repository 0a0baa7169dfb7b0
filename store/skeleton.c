/* store/skeleton.c: HDF5 lays out groups and datasets; their bytes are written by us. */
#include "skeleton.h"

#include "layout.h"

#include <stdlib.h>
#include <string.h>

/* Datasets of 64 KiB and more start on a page of the file (which the user block keeps aligned). */
enum { ALIGN_FROM = 65536, ALIGN_TO = 4096 };

typedef struct builder {
    hid_t driver, access, creation, group_creation, dataset_creation, file;
} builder;

/* No times: the same content is to be the same bytes. */
static bool make_properties(builder *build, tt_image *image)
{
    tt_driver_source source = {.image = image, .fd = -1};
    if (!tt_driver_access(&source, &build->driver, &build->access))
        return false;
    build->creation = H5Pcreate(H5P_FILE_CREATE);
    build->group_creation = H5Pcreate(H5P_GROUP_CREATE);
    build->dataset_creation = H5Pcreate(H5P_DATASET_CREATE);
    /* The 1.8 format: checksummed metadata, half the size, and every reader since 2008. */
    return H5Pset_libver_bounds(build->access, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
           H5Pset_alignment(build->access, ALIGN_FROM, ALIGN_TO) >= 0 &&
           H5Pset_userblock(build->creation, TT_STORE_PREFIX_BYTES) >= 0 &&
           H5Pset_obj_track_times(build->creation, false) >= 0 &&
           H5Pset_obj_track_times(build->group_creation, false) >= 0 &&
           H5Pset_obj_track_times(build->dataset_creation, false) >= 0 &&
           H5Pset_layout(build->dataset_creation, H5D_CONTIGUOUS) >= 0 &&
           H5Pset_alloc_time(build->dataset_creation, H5D_ALLOC_TIME_EARLY) >= 0 &&
           H5Pset_fill_time(build->dataset_creation, H5D_FILL_TIME_NEVER) >= 0;
}

static tt_status failed(const char *what, const char *path)
{
    char reason[256];
    return tt_fail(TT_EINTERNAL, "HDF5 could not %s '%s': %s", what, path, tt_hdf5_reason(reason));
}

/* The groups of each path that the path before it in order did not have: all that share a group
 * stand together. */
static tt_status make_groups(const builder *build, const tt_store_dataset *datasets,
                             const size_t *sorted, size_t count)
{
    size_t objects = count + 1; /* the root */
    const char *before = "";
    for (size_t i = 0; i < count; i++) {
        const char *path = datasets[sorted[i]].path;
        for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
            size_t length = (size_t)(slash - path);
            if (strncmp(before, path, length + 1) == 0)
                continue;
            char group[TT_STORE_MAX_NAME];
            memcpy(group, path, length);
            group[length] = '\0';
            if (++objects > TT_STORE_MAX_OBJECTS)
                return tt_fail(TT_EINVAL, "a container holds at most %d datasets and groups",
                               TT_STORE_MAX_OBJECTS);
            hid_t id =
                H5Gcreate2(build->file, group, H5P_DEFAULT, build->group_creation, H5P_DEFAULT);
            if (id < 0 || H5Gclose(id) < 0)
                return failed("make the group", group);
        }
        before = path;
    }
    return TT_OK;
}

static tt_status make_dataset(const builder *build, tt_store_dataset *dataset)
{
    tt_status status = TT_OK;
    hsize_t dims[TT_STORE_MAX_RANK];
    for (int i = 0; i < dataset->rank; i++)
        dims[i] = (hsize_t)dataset->dims[i];
    hid_t space =
        dataset->rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(dataset->rank, dims, NULL);
    hid_t id = H5Dcreate2(build->file, dataset->path, tt_hdf5_type(dataset->dtype), space,
                          H5P_DEFAULT, build->dataset_creation, H5P_DEFAULT);
    if (id < 0) {
        status = failed("make the dataset", dataset->path);
        goto out;
    }
    dataset->file_offset = 0;
    if (dataset->bytes > 0) {
        /* From the start of the file, the user block included. */
        haddr_t offset = H5Dget_offset(id);
        if (offset == HADDR_UNDEF || offset < TT_STORE_PREFIX_BYTES || offset > INT64_MAX / 2)
            status = failed("place the dataset", dataset->path);
        dataset->file_offset = (int64_t)offset;
    }
out:
    if (id >= 0)
        H5Dclose(id);
    if (space >= 0)
        H5Sclose(space);
    return status;
}

tt_status tt_store_skeleton_build(tt_store_dataset *datasets, const size_t *sorted, size_t count,
                                  tt_image *image)
{
    tt_status status = TT_OK;
    tt_hdf5_guard guard;
    builder build = {H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID,
                     H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID};
    tt_hdf5_enter(&guard);
    if (make_properties(&build, image))
        build.file = H5Fcreate(TT_HDF5_NAME, H5F_ACC_TRUNC, build.creation, build.access);
    if (build.file < 0) {
        status = failed("start", "a container");
        goto out;
    }
    status = make_groups(&build, datasets, sorted, count);
    for (size_t i = 0; i < count && status == TT_OK; i++)
        status = make_dataset(&build, &datasets[i]);
out:
    if (build.file >= 0 && H5Fclose(build.file) < 0 && status == TT_OK)
        status = failed("finish", "a container");
    const hid_t lists[] = {build.dataset_creation, build.group_creation, build.creation,
                           build.access};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (lists[i] >= 0)
            H5Pclose(lists[i]);
    }
    if (build.driver >= 0)
        H5FDunregister(build.driver);
    tt_hdf5_leave(&guard);
    if (image->failed)
        status = tt_fail(TT_ENOMEM, "no memory for the metadata of a container");
    return status;
}
