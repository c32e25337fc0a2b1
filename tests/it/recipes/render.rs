//! As much of kustomize as `manifests/` use, so that overlays can be read where there is no kubectl. What it does not know it
//! refuses; `tests/cluster/manifests.py` renders the same with the real one.

use std::path::Path;

use serde_json::{Value, json};

use crate::manifests::documents;

/// Where an object keeps the kind that it had before a patch changed it: later patches find it by either.
const FORMER_KIND: &str = "$formerKind";

/// The objects that a folder with a kustomization.yaml stands for.
pub(crate) fn render(folder: &Path) -> Vec<Value> {
    let mut objects = Vec::new();
    apply(folder, &mut objects);
    without_former_kinds(objects)
}

/// The base of `manifests/` with these of its components.
pub(crate) fn with_components(manifests: &Path, components: &[&str]) -> Vec<Value> {
    let mut objects = render(&manifests.join("base"));
    components.iter().for_each(|name| apply(&manifests.join("components").join(name), &mut objects));
    without_former_kinds(objects)
}

fn without_former_kinds(mut objects: Vec<Value>) -> Vec<Value> {
    objects.iter_mut().filter_map(Value::as_object_mut).for_each(|object| drop(object.remove(FORMER_KIND)));
    objects
}

fn apply(folder: &Path, objects: &mut Vec<Value>) {
    let kustomization = documents(folder.join("kustomization.yaml")).remove(0);
    for key in kustomization.as_object().expect("a map").keys() {
        let known =
            ["apiVersion", "kind", "namespace", "resources", "components", "configMapGenerator", "patches", "images"];
        assert!(known.contains(&key.as_str()), "{}: {key}", folder.display());
    }
    for resource in strings(&kustomization["resources"]) {
        let path = folder.join(resource);
        if path.extension().is_some() { objects.extend(documents(path)) } else { objects.extend(render(&path)) }
    }
    for component in strings(&kustomization["components"]) {
        apply(&folder.join(component), objects);
    }
    objects.extend(list(&kustomization["configMapGenerator"]).iter().map(config_map));
    for patch in list(&kustomization["patches"]) {
        apply_patch(patch, objects);
    }
    for image in list(&kustomization["images"]) {
        objects.iter_mut().for_each(|object| set_image(image, object));
    }
    if let Some(namespace) = kustomization["namespace"].as_str() {
        objects.iter_mut().for_each(|object| set_namespace(namespace, object));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    list(value).iter().map(|item| item.as_str().expect("a string"))
}

fn config_map(generator: &Value) -> Value {
    let data = strings(&generator["literals"]).map(|literal| literal.split_once('=').expect("NAME=VALUE"));
    let data: serde_json::Map<_, _> = data.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": generator["name"] }, "data": data })
}

fn apply_patch(patch: &Value, objects: &mut Vec<Value>) {
    let content: Value = serde_yaml_ng::from_str(patch["patch"].as_str().expect("a patch")).expect("YAML");
    // A patch that is an object of its own names its target itself.
    let target = patch.get("target").cloned().unwrap_or_else(|| {
        assert_eq!(content["$patch"], "delete", "{content}");
        json!({ "kind": content["kind"], "name": content["metadata"]["name"] })
    });
    let fits = |object: &Value| {
        let of_kind = [&object["kind"], &object[FORMER_KIND]].contains(&&target["kind"]);
        of_kind && object["metadata"]["name"] == target["name"]
    };
    // kustomize leaves out a patch with a target that is not there: components/statefulset has one for components/admission-policy.
    let found = objects.iter().filter(|object| fits(object)).count();
    let optional = target["kind"] == "ValidatingAdmissionPolicy";
    if optional && found == 0 {
        return;
    }
    assert_eq!(found, 1, "{target}");
    match content.as_array() {
        Some(steps) => {
            let object = objects.iter_mut().find(|object| fits(object)).expect("counted");
            let kind = object["kind"].clone();
            steps.iter().for_each(|step| take(step, object));
            if object["kind"] != kind {
                object[FORMER_KIND] = kind;
            }
        }
        None => objects.retain(|object| !fits(object)),
    }
}

/// One step of a JSON patch.
fn take(step: &Value, object: &mut Value) {
    let at = |key: &str| step[key].as_str().unwrap_or_else(|| panic!("{step} without {key}"));
    match at("op") {
        "add" => add(object, at("path"), step["value"].clone()),
        "remove" => drop(remove(object, at("path"))),
        "replace" => *object.pointer_mut(at("path")).unwrap_or_else(|| panic!("{step}")) = step["value"].clone(),
        "test" => assert_eq!(object.pointer(at("path")), Some(&step["value"]), "{step}"),
        "move" => {
            let moved = remove(object, at("from"));
            add(object, at("path"), moved);
        }
        _ => panic!("{step}"),
    }
}

fn parent<'a, 'b>(object: &'a mut Value, path: &'b str) -> (&'a mut Value, &'b str) {
    let (parent, last) = path.rsplit_once('/').expect("a pointer");
    (object.pointer_mut(parent).unwrap_or_else(|| panic!("{path}: nothing there")), last)
}

fn add(object: &mut Value, path: &str, value: Value) {
    match parent(object, path) {
        (Value::Array(list), "-") => list.push(value),
        (Value::Array(list), index) => list.insert(index.parse().expect("an index"), value),
        (Value::Object(map), key) => drop(map.insert(key.to_owned(), value)),
        _ => panic!("{path}: neither list nor map"),
    }
}

fn remove(object: &mut Value, path: &str) -> Value {
    match parent(object, path) {
        (Value::Array(list), index) => list.remove(index.parse().expect("an index")),
        (Value::Object(map), key) => map.remove(key).unwrap_or_else(|| panic!("{path}: nothing there")),
        _ => panic!("{path}: neither list nor map"),
    }
}

fn set_image(image: &Value, object: &mut Value) {
    let Some(pod) = object.pointer_mut("/spec/template/spec") else { return };
    for kind in ["initContainers", "containers"] {
        for container in pod[kind].as_array_mut().into_iter().flatten() {
            let shown = container["image"].as_str().unwrap_or_default();
            let (name, tag) = shown.split_once(':').map_or((shown, None), |(name, tag)| (name, Some(tag)));
            if image["name"] == name {
                let name = image["newName"].as_str().unwrap_or(name);
                let tag = image["newTag"].as_str().or(tag).expect("a tag");
                container["image"] = json!(format!("{name}:{tag}"));
            }
        }
    }
}

fn set_namespace(namespace: &str, object: &mut Value) {
    match object["kind"].as_str() {
        Some("Namespace") => object["metadata"]["name"] = json!(namespace),
        _ => object["metadata"]["namespace"] = json!(namespace),
    }
    for subject in object["subjects"].as_array_mut().into_iter().flatten() {
        subject["namespace"] = json!(namespace);
    }
}
