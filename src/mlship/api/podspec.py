"""The table of core/v1 types that mlship checks and passes on: names, types, required fields, nothing else.

Facts of the Kubernetes API (core/v1, autoscaling/v2, apps/v1) as KServe 0.20 embeds them; ``shapes`` explains the
notation and compiles it. The conformance test compares every entry with KServe's published schema.
"""

from __future__ import annotations

_REF = "name:str"
_FILES = "items:[KeyToPath]"
_SELECTOR_TERM = "key:str! operator:str! values:[str]"

SHAPES: dict[str, str] = {
    # containers
    "Exec": "command:[str]",
    "Header": "name:str! value:str!",
    "HttpGet": "host:str httpHeaders:[Header] path:str port:intstr! scheme:str",
    "TcpSocket": "host:str port:intstr!",
    "GrpcProbe": "port:int! service:str",
    "Sleep": "seconds:int!",
    "Handler": "exec:Exec httpGet:HttpGet sleep:Sleep tcpSocket:TcpSocket",
    "Lifecycle": "postStart:Handler preStop:Handler stopSignal:str",
    "ResizePolicy": "resourceName:str! restartPolicy:str!",
    "ExitCodes": "operator:str! values:[int]",
    "RestartRule": "action:str! exitCodes:ExitCodes",
    "Profile": "localhostProfile:str type:str!",
    "Capabilities": "add:[str] drop:[str]",
    "SELinuxOptions": "level:str role:str type:str user:str",
    "WindowsOptions": "gmsaCredentialSpec:str gmsaCredentialSpecName:str hostProcess:bool runAsUserName:str",
    "SecurityContext": "allowPrivilegeEscalation:bool appArmorProfile:Profile capabilities:Capabilities "
    "privileged:bool procMount:str readOnlyRootFilesystem:bool runAsGroup:int runAsNonRoot:bool runAsUser:int "
    "seLinuxOptions:SELinuxOptions seccompProfile:Profile windowsOptions:WindowsOptions",
    "VolumeDevice": "devicePath:str! name:str!",
    "ResourceClaim": "name:str! request:str",
    "FileKeyRef": "key:str! optional:bool path:str! volumeName:str!",
    "FieldRef": "apiVersion:str fieldPath:str!",
    "ResourceFieldRef": "containerName:str divisor:quantity resource:str!",
    "KeyRef": "key:str! name:str optional:bool",
    "EnvSource": "configMapKeyRef:KeyRef fieldRef:FieldRef fileKeyRef:FileKeyRef "
    "resourceFieldRef:ResourceFieldRef secretKeyRef:KeyRef",
    "EnvFromRef": "name:str optional:bool",
    # scheduling
    "SelectorTerm": _SELECTOR_TERM,
    "NodeSelectorTerm": "matchExpressions:[SelectorTerm] matchFields:[SelectorTerm]",
    "PreferredNode": "preference:NodeSelectorTerm! weight:int!",
    "NodeSelector": "nodeSelectorTerms:[NodeSelectorTerm]!",
    "NodeAffinity": "preferredDuringSchedulingIgnoredDuringExecution:[PreferredNode] "
    "requiredDuringSchedulingIgnoredDuringExecution:NodeSelector",
    "LabelSelector": "matchExpressions:[SelectorTerm] matchLabels:{str}",
    "PodTerm": "labelSelector:LabelSelector matchLabelKeys:[str] mismatchLabelKeys:[str] "
    "namespaceSelector:LabelSelector namespaces:[str] topologyKey:str!",
    "PreferredPod": "podAffinityTerm:PodTerm! weight:int!",
    "PodAffinity": "preferredDuringSchedulingIgnoredDuringExecution:[PreferredPod] "
    "requiredDuringSchedulingIgnoredDuringExecution:[PodTerm]",
    "Affinity": "nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAffinity",
    "Toleration": "effect:str key:str operator:str tolerationSeconds:int value:str",
    "Spread": "labelSelector:LabelSelector matchLabelKeys:[str] maxSkew:int! minDomains:int nodeAffinityPolicy:str "
    "nodeTaintsPolicy:str topologyKey:str! whenUnsatisfiable:str!",
    "PodClaim": "name:str! resourceClaimName:str resourceClaimTemplateName:str",
    "Named": "name:str!",
    "SecretRef": _REF,
    "ReadinessGate": "conditionType:str!",
    "HostAlias": "hostnames:[str] ip:str!",
    "DnsOption": "name:str value:str",
    "DnsConfig": "nameservers:[str] options:[DnsOption] searches:[str]",
    "PodSecurityContext": "appArmorProfile:Profile fsGroup:int fsGroupChangePolicy:str runAsGroup:int "
    "runAsNonRoot:bool runAsUser:int seLinuxChangePolicy:str seLinuxOptions:SELinuxOptions seccompProfile:Profile "
    "supplementalGroups:[int] supplementalGroupsPolicy:str sysctls:[Header] windowsOptions:WindowsOptions",
    # volumes
    "KeyToPath": "key:str! mode:int path:str!",
    "AwsElasticBlockStore": "fsType:str partition:int readOnly:bool volumeID:str!",
    "AzureDisk": "cachingMode:str diskName:str! diskURI:str! fsType:str kind:str readOnly:bool",
    "AzureFile": "readOnly:bool secretName:str! shareName:str!",
    "Cephfs": "monitors:[str]! path:str readOnly:bool secretFile:str secretRef:SecretRef user:str",
    "Cinder": "fsType:str readOnly:bool secretRef:SecretRef volumeID:str!",
    "ConfigMapVolume": f"defaultMode:int {_FILES} name:str optional:bool",
    "Csi": "driver:str! fsType:str nodePublishSecretRef:SecretRef readOnly:bool volumeAttributes:{str}",
    "DownwardItem": "fieldRef:FieldRef mode:int path:str! resourceFieldRef:ResourceFieldRef",
    "DownwardVolume": "defaultMode:int items:[DownwardItem]",
    "EmptyDir": "medium:str sizeLimit:quantity",
    "DataSource": "apiGroup:str kind:str! name:str!",
    "DataSourceRef": "apiGroup:str kind:str! name:str! namespace:str",
    "VolumeResources": "limits:{quantity} requests:{quantity}",
    "ClaimSpec": "accessModes:[str] dataSource:DataSource dataSourceRef:DataSourceRef resources:VolumeResources "
    "selector:LabelSelector storageClassName:str volumeAttributesClassName:str volumeMode:str volumeName:str",
    "ClaimTemplate": "metadata:any spec:ClaimSpec!",
    "Ephemeral": "volumeClaimTemplate:ClaimTemplate",
    "Fc": "fsType:str lun:int readOnly:bool targetWWNs:[str] wwids:[str]",
    "FlexVolume": "driver:str! fsType:str options:{str} readOnly:bool secretRef:SecretRef",
    "Flocker": "datasetName:str datasetUUID:str",
    "GcePersistentDisk": "fsType:str partition:int pdName:str! readOnly:bool",
    "GitRepo": "directory:str repository:str! revision:str",
    "Glusterfs": "endpoints:str! path:str! readOnly:bool",
    "HostPath": "path:str! type:str",
    "ImageVolume": "pullPolicy:str reference:str",
    "Iscsi": "chapAuthDiscovery:bool chapAuthSession:bool fsType:str initiatorName:str iqn:str! iscsiInterface:str "
    "lun:int! portals:[str] readOnly:bool secretRef:SecretRef targetPortal:str!",
    "Nfs": "path:str! readOnly:bool server:str!",
    "PersistentVolumeClaim": "claimName:str! readOnly:bool",
    "PhotonPersistentDisk": "fsType:str pdID:str!",
    "PortworxVolume": "fsType:str readOnly:bool volumeID:str!",
    "TrustBundle": "labelSelector:LabelSelector name:str optional:bool path:str! signerName:str",
    "ProjectedFiles": f"{_FILES} name:str optional:bool",
    "ProjectedDownward": "items:[DownwardItem]",
    "PodCertificate": "certificateChainPath:str credentialBundlePath:str keyPath:str keyType:str! "
    "maxExpirationSeconds:int signerName:str!",
    "AccountToken": "audience:str expirationSeconds:int path:str!",
    "ProjectedSource": "clusterTrustBundle:TrustBundle configMap:ProjectedFiles downwardAPI:ProjectedDownward "
    "podCertificate:PodCertificate secret:ProjectedFiles serviceAccountToken:AccountToken",
    "Projected": "defaultMode:int sources:[ProjectedSource]",
    "Quobyte": "group:str readOnly:bool registry:str! tenant:str user:str volume:str!",
    "Rbd": "fsType:str image:str! keyring:str monitors:[str]! pool:str readOnly:bool secretRef:SecretRef user:str",
    "ScaleIO": "fsType:str gateway:str! protectionDomain:str readOnly:bool secretRef:SecretRef! sslEnabled:bool "
    "storageMode:str storagePool:str system:str! volumeName:str",
    "SecretVolume": f"defaultMode:int {_FILES} optional:bool secretName:str",
    "StorageOS": "fsType:str readOnly:bool secretRef:SecretRef volumeName:str volumeNamespace:str",
    "Vsphere": "fsType:str storagePolicyID:str storagePolicyName:str volumePath:str!",
    "Volume": "awsElasticBlockStore:AwsElasticBlockStore azureDisk:AzureDisk azureFile:AzureFile cephfs:Cephfs "
    "cinder:Cinder configMap:ConfigMapVolume csi:Csi downwardAPI:DownwardVolume emptyDir:EmptyDir "
    "ephemeral:Ephemeral fc:Fc flexVolume:FlexVolume flocker:Flocker gcePersistentDisk:GcePersistentDisk "
    "gitRepo:GitRepo glusterfs:Glusterfs hostPath:HostPath image:ImageVolume iscsi:Iscsi name:str! nfs:Nfs "
    "persistentVolumeClaim:PersistentVolumeClaim photonPersistentDisk:PhotonPersistentDisk "
    "portworxVolume:PortworxVolume projected:Projected quobyte:Quobyte rbd:Rbd scaleIO:ScaleIO secret:SecretVolume "
    "storageos:StorageOS vsphereVolume:Vsphere",
    # workloads
    "RollingUpdate": "maxSurge:intstr maxUnavailable:intstr",
    "DeploymentStrategy": "rollingUpdate:RollingUpdate type:str",
    "ScalingPolicy": "periodSeconds:int! type:str! value:int!",
    "ScalingRules": "policies:[ScalingPolicy] selectPolicy:str stabilizationWindowSeconds:int tolerance:quantity",
    "ScalingBehavior": "scaleDown:ScalingRules scaleUp:ScalingRules",
}
