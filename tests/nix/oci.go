// What nix2container's transport for skopeo does: writes an image.json as an OCI layout. Arguments: the JSON, and a folder.
package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/nlewo/nix2container/nix"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	image, err := nix.NewImageFromFile(os.Args[1])
	check(err)
	blobs := filepath.Join(os.Args[2], "blobs", "sha256")
	check(os.MkdirAll(blobs, 0o755))
	write := func(mediaType string, content []byte) v1.Descriptor {
		name := digest.FromBytes(content)
		check(os.WriteFile(filepath.Join(blobs, name.Encoded()), content, 0o644))
		return v1.Descriptor{MediaType: mediaType, Digest: name, Size: int64(len(content))}
	}
	text := func(mediaType string, value interface{}) v1.Descriptor {
		content, err := json.Marshal(value)
		check(err)
		return write(mediaType, content)
	}
	var layers []v1.Descriptor
	for _, layer := range image.Layers {
		reader, _, err := nix.LayerGetBlob(layer)
		check(err)
		content, err := io.ReadAll(reader)
		check(err)
		made := write(v1.MediaTypeImageLayer, content)
		if made.Digest.String() != layer.Digest {
			panic("a layer is not what its digest says: " + layer.Digest)
		}
		layers = append(layers, made)
	}
	config, err := nix.GetConfigBlob(image)
	check(err)
	version := specs.Versioned{SchemaVersion: 2}
	manifest := text(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: version, MediaType: v1.MediaTypeImageManifest, Config: write(v1.MediaTypeImageConfig, config), Layers: layers,
	})
	index, err := json.Marshal(v1.Index{Versioned: version, Manifests: []v1.Descriptor{manifest}})
	check(err)
	check(os.WriteFile(filepath.Join(os.Args[2], "index.json"), index, 0o644))
	check(os.WriteFile(filepath.Join(os.Args[2], "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
}
